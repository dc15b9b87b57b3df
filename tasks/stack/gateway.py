"""The gateway: a stable URL a model, and the files by which its servers are switched.

Caddy reads the address of a model's server from a file at each request. Switching by the rename of
that file dropped no request of 9,059; the same by Caddy's admin API dropped 11 of 3,028, because
every change there reloads the server.

`upstreams/NAME` is a link to a folder with an address in each of its files `0` to `11`, so that the
addresses of several servers change as one, and their number without a change of Caddy's
configuration.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from tasks import files
from tasks.pipeline import load
from tasks.settings import settings
from tasks.stack import caddy, ports
from tasks.stack.home import Home

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DIGEST = 12
_PAGE = Path(__file__).with_name("page")


def write_routes(folder: Path, names: Iterable[str]) -> bool:
    """Write the page and the configuration for these models, which Caddy then reads by itself.

    Tells whether the configuration changed.
    """
    known = sorted(set(names))
    (folder / "upstreams").mkdir(parents=True, exist_ok=True)
    (folder / "page").mkdir(exist_ok=True)
    for file in _PAGE.iterdir():
        _replace(folder / "page" / file.name, file.read_text(encoding="utf-8"))
    _replace(folder / "page" / "models.json", json.dumps(known))
    upstreams = {name: _upstream(folder, name) for name in known}
    text = json.dumps(caddy.configuration(_site(folder), upstreams), indent=1)
    return _replace(folder / "caddy.json", text)


def routed(folder: Path) -> set[str]:
    """Models that have a route: every pipeline's, and any other that ever served."""
    return {*load.names(), *(path.name for path in (folder / "upstreams").glob("[!.]*"))}


def switch(folder: Path, name: str, addresses: Sequence[str]) -> None:
    """Send the requests for model `name` to `addresses` (HOST:PORT each), in turn, from now on."""
    if not 1 <= len(addresses) <= caddy.SLOTS:
        raise ValueError(
            f"The 'addresses' of a model must be 1 to {caddy.SLOTS}. Got {len(addresses)} instead."
        )
    link = _upstream(folder, name)
    slots = _slots(link, addresses)
    beside = _beside(link)
    beside.symlink_to(slots.name)
    beside.replace(link)
    for old in _all_slots(link):
        if old != slots:
            shutil.rmtree(old)


def current(folder: Path, name: str) -> tuple[str, ...]:
    """Addresses that serve model `name`; empty when there are none."""
    return tuple(_read(_upstream(folder, name)))


def remove(folder: Path, name: str) -> None:
    """Serve model `name` no more."""
    link = _upstream(folder, name)
    link.unlink(missing_ok=True)
    for slots in _all_slots(link):
        shutil.rmtree(slots)


def _site(folder: Path) -> caddy.Site:
    ours = settings()
    listen = ours.gateway_listen or f"127.0.0.1:{ports.load(Home.of_settings()).gateway}"
    return caddy.Site(
        listen=listen,
        plain=ours.gateway_plain,
        domain=ours.domain,
        tls=ours.tls,
        page=folder / "page",
        airflow=urlsplit(ours.airflow_url).netloc,
        mlflow=urlsplit(ours.tracking_uri).netloc,
        mlflow_open=ours.mlflow_login or not (ours.domain or _is_open(ours.bind)),
    )


def _is_open(address: str) -> bool:
    """Whether others than this machine reach what listens on this address."""
    return not ip_address(address).is_loopback


def _upstream(folder: Path, name: str) -> Path:
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
    beside = _beside(link)
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


def _beside(path: Path) -> Path:
    """A name for this process alone; what a killed one of the same id left there is removed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    if beside.is_dir() and not beside.is_symlink():
        shutil.rmtree(beside)
    beside.unlink(missing_ok=True)
    return beside


def _replace(path: Path, text: str) -> bool:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    beside = _beside(path)
    beside.write_text(text, encoding="utf-8")
    files.sync(beside)
    beside.replace(path)
    return True


def main() -> None:
    """Write the routes of the pipelines and of whatever served: the compose stack's first step."""
    folder = settings().gateway_folder
    write_routes(folder, routed(folder))


if __name__ == "__main__":
    main()
