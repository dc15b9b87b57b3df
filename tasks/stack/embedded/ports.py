"""Which service listens where: defaults, moved when taken, and kept from then on."""

from __future__ import annotations

import json
import random
import socket
from dataclasses import asdict, dataclass

from tasks.base.errors import UnavailableError
from tasks.stack.embedded.home import Home, write_private

# Below Linux's range for outgoing connections (32768+), so that no client takes one by chance.
_MOVED = range(20000, 30000)
_TRIES = 200


@dataclass(frozen=True)
class Ports:
    """Port of each service, on 127.0.0.1."""

    gateway: int = 8000
    airflow: int = 8080
    mlflow: int = 5000
    store: int = 9000
    postgres: int = 5432


def free(port: int) -> bool:
    """Whether nobody listens on the port, on this address or on all."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT after a restart is not taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    # macOS lets two bind the same port when one of them binds all addresses.
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) != 0


def load(home: Home) -> Ports:
    """The recorded ports, or the defaults."""
    path = home.root / "ports.json"
    return Ports(**json.loads(path.read_text())) if path.exists() else Ports()


def save(home: Home, ports: Ports) -> None:
    """Record the ports."""
    write_private(home.root / "ports.json", json.dumps(asdict(ports), indent=1))


def settle(home: Home, keep: frozenset[str] = frozenset()) -> tuple[Ports, dict[str, int]]:
    """Ports that can be used now, recorded, and those that moved with their old value.

    `keep` names services that run and so hold their own port.
    """
    wanted = asdict(load(home))
    moved: dict[str, int] = {}
    of_others = [port for name, port in wanted.items() if name in keep]
    for name, port in wanted.items():
        if name in keep:
            continue
        if port in of_others or not free(port):
            moved[name] = port
            wanted[name] = _another(set(wanted.values()))
        of_others.append(wanted[name])
    ports = Ports(**wanted)
    save(home, ports)
    return ports, moved


def unused() -> int:
    """A port that nobody listens on."""
    return _another(set())


def _another(taken: set[int]) -> int:
    for port in random.SystemRandom().sample(_MOVED, _TRIES):
        if port not in taken and free(port):
            return port
    raise UnavailableError(
        f"No free port was found between {_MOVED.start} and {_MOVED.stop}.",
        fix="End what listens there.",
    )
