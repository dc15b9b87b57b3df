"""The files that switch a model's requests from one server to another.

Caddy reads the address of a model's server from a file at each request. Switching by renaming that
file dropped none of 9,059 requests. Switching by Caddy's admin API dropped 11 of 3,028, because
every change there reloads the server.

`upstreams/NAME` is a link to a folder with an address in each of its files `0` to `11`. So the
addresses of several servers change at once, and their number changes without a new configuration.
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
    """Models that are behind the gateway."""
    return {path.name for path in (folder / "upstreams").glob("[!.]*")}


def switch(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """From now on, distribute the model's requests over these addresses (HOST:PORT each)."""
    if not 1 <= len(addresses) <= caddy.SLOTS:
        raise ValueError(
            f"The 'addresses' of a model must be 1 to {caddy.SLOTS}. Got {len(addresses)} instead."
        )
    link = link_of(folder, name)
    slots = _write_slots(link, addresses)
    new_link = files.beside(link)
    new_link.symlink_to(slots.name)
    new_link.replace(link)
    for old in _all_slots(link):
        if old != slots:
            shutil.rmtree(old)


def current(folder: Path, name: str) -> tuple[str, ...]:
    """The addresses that serve the model; empty without an endpoint."""
    return tuple(_read(link_of(folder, name)))


def remove(folder: Path, name: str) -> None:
    """Remove the model's endpoint."""
    link = link_of(folder, name)
    link.unlink(missing_ok=True)
    for slots in _all_slots(link):
        shutil.rmtree(slots)


def link_of(folder: Path, name: str) -> Path:
    """The link to the folder with the addresses of a model's servers.

    Raises:
        ValueError: No folder can have this name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The 'name' of a model must consist of letters, digits, '_', '.' and '-'. "
            f"Got {name!r} instead."
        )
    return folder / "upstreams" / name


def _write_slots(link: Path, addresses: Sequence[str]) -> Path:
    """The folder that holds these addresses, written completely or not at all."""
    digest = hashlib.sha256("\n".join(addresses).encode()).hexdigest()[:_DIGEST]
    folder = link.with_name(f".{link.name}-{digest}")
    if _read(folder) == list(dict.fromkeys(addresses)):
        return folder
    shutil.rmtree(folder, ignore_errors=True)  # a killed removal left part of it
    part = files.beside(link)
    part.mkdir()
    for slot in range(caddy.SLOTS):
        (part / str(slot)).write_text(addresses[slot % len(addresses)])
    files.sync(part)
    return part.rename(folder)


def _read(slots: Path) -> list[str]:
    """The addresses in a folder; none if it is missing or incomplete."""
    try:
        addresses = [(slots / str(slot)).read_text() for slot in range(caddy.SLOTS)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return list(dict.fromkeys(addresses))


def _all_slots(link: Path) -> Iterator[Path]:
    pattern = re.compile(rf"\.{re.escape(link.name)}-[0-9a-f]{{{_DIGEST}}}")
    return (path for path in link.parent.iterdir() if pattern.fullmatch(path.name))
