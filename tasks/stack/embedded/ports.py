"""The port of each service: a default, which moves if it is taken and then stays."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.base.errors import UnavailableError
from tasks.stack.embedded.home import Home, write_private

# Below Linux's range for outgoing connections (32768+): no client takes such a port by chance.
_MOVED = range(20000, 30000)
_TRIES = 200


@dataclass(frozen=True)
class Ports:
    """The port of each service, on 127.0.0.1."""

    gateway: int = 8000
    airflow: int = 8080
    mlflow: int = 5000
    store: int = 9000
    postgres: int = 5432


def free(port: int) -> bool:
    """Whether nothing listens on the port, on 127.0.0.1 or on all addresses."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT after a restart is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    # macOS lets two sockets bind the same port if one of them binds all addresses.
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) != 0


def load(home: Home) -> Ports:
    """The recorded ports, or the defaults."""
    path = _file(home)
    return Ports(**json.loads(path.read_text())) if path.exists() else Ports()


def save(home: Home, ports: Ports) -> None:
    """Record the ports."""
    write_private(_file(home), json.dumps(asdict(ports), indent=1))


def settle(home: Home, keep: frozenset[str] = frozenset()) -> tuple[Ports, dict[str, int]]:
    """Choose and record free ports; also returns the former port of each service that moved.

    `keep` names the services that are running and so occupy their own ports.
    """
    chosen = asdict(load(home))
    moved: dict[str, int] = {}
    taken = [port for name, port in chosen.items() if name in keep]
    for name, port in chosen.items():
        if name in keep:
            continue
        if port in taken or not free(port):
            moved[name] = port
            chosen[name] = unused(set(chosen.values()))
        taken.append(chosen[name])
    ports = Ports(**chosen)
    save(home, ports)
    return ports, moved


def unused(excluded: Container[int] = ()) -> int:
    """A random port that nothing listens on.

    Raises:
        UnavailableError: No such port was found.
    """
    for port in random.SystemRandom().sample(_MOVED, _TRIES):
        if port not in excluded and free(port):
            return port
    raise UnavailableError(
        f"No free port was found between {_MOVED.start} and {_MOVED.stop}.",
        fix="Stop some of the servers that listen there.",
    )


def _file(home: Home) -> Path:
    return home.root / "ports.json"
