"""What runs a model version's server: processes of the embedded stack, and later containers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal, Protocol

from tasks.stack import health

HOST = "127.0.0.1"
GRACE_S = 25
"""What a server gives to the requests in flight when it is told to end."""
PORT_TAKEN = "The server's port is taken."
"""Last words of a server that cannot listen; the next start moves it."""

State = Literal["running", "starting", "stopped"]


@dataclass(frozen=True)
class Deployment:
    """One server of one version."""

    name: str
    version: int
    address: str
    """host:port, as the gateway reaches it."""
    state: State

    def ask(self, path: str) -> dict[str, Any] | None:
        """What the server answers to a GET, as JSON; None when it does not."""
        return ask(self.address, path)

    def answers(self) -> bool:
        """Whether the server answers, and as this version: another program may have its port."""
        identity = self.ask("/version")
        return identity is not None and (identity.get("name"), identity.get("version")) == (
            self.name,
            self.version,
        )


class Target(Protocol):
    """Starts and stops servers. Every call can be repeated."""

    def start(self, name: str, version: int) -> Deployment:
        """The version's server: the running one, or a new one that may not answer yet."""
        ...

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until the server answers as this version.

        Raises:
            RunFailedError: It ended, or did not answer within `timeout` seconds.
            UnavailableError: Another program was quicker to take its port: start it again.
        """
        ...

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, `drain_timeout` seconds at most, and end the server."""
        ...

    def list(self, name: str | None = None) -> list[Deployment]:
        """The servers of one model or of all, whatever their state, oldest version first."""
        ...

    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The end of what the version's server wrote."""
        ...


def ask(address: str, path: str) -> dict[str, Any] | None:
    """What a server answers to a GET, as a JSON object; None when it does not."""
    answer = health.get(int(address.rpartition(":")[2]), path)
    if answer is None or answer[0] != HTTPStatus.OK:
        return None
    try:
        content = json.loads(answer[1])
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
