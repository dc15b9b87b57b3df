"""What a target starts and stops: the servers of one version."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, Protocol

from tasks.base import http
from tasks.pipeline.schema import Builder, Serving

State = Literal["running", "starting", "stopped"]
_QUIET_S = 0.5


@dataclass(frozen=True)
class Deployment:
    """The servers of one version."""

    name: str
    version: int
    addresses: tuple[str, ...]
    """host:port of each, as tasks and the gateway reach them."""
    state: State
    builder: Builder = "mlops"
    """Whose server it is: MLflow's own tells neither its version nor what it is doing."""
    young: bool = field(default=False, compare=False)
    """Whether it may still load its model, though it counts as running."""

    @property
    def address(self) -> str:
        """The first server's."""
        return self.addresses[0]

    def ask(self, path: str) -> dict[str, Any] | None:
        """What the first server answers to a GET, as JSON; None when it does not."""
        return ask(self.address, path)

    def answers(self) -> bool:
        """Whether all servers answer, and as this version: another program may have a port."""
        return all(self._answers(address) for address in self.addresses)

    def drain(self, timeout: float, runs: Callable[[], bool]) -> None:
        """Wait until nobody uses the servers, or they end: `timeout` seconds at most.

        MLflow's server does not tell what it is doing, so it gets all of the time.
        """
        deadline = time.monotonic() + timeout
        last: object = None
        while time.monotonic() < deadline and runs():
            now = [ask(address, "/status") for address in self.addresses]
            free = all(status is None or status["inflight"] == 0 for status in now)
            # None in flight, twice, and none that came and went between: nobody sends any more.
            if now == last and free and self.builder == "mlops":
                return
            last = now
            time.sleep(min(_QUIET_S, max(0.0, deadline - time.monotonic())))

    def _answers(self, address: str) -> bool:
        if self.builder == "mlflow":
            return pings(address)
        identity = ask(address, "/version")
        return identity is not None and (identity.get("name"), identity.get("version")) == (
            self.name,
            self.version,
        )


class Target(Protocol):
    """Starts and stops servers. Every call can be repeated."""

    def build(self, name: str, version: int, serving: Serving) -> dict[str, str]:
        """Make what `start` needs and takes long: an image.

        Returns:
            What there is to say of it, for the run's tags.

        Raises:
            RunFailedError: The version cannot be built.
        """
        ...

    def start(self, name: str, version: int, serving: Serving = ...) -> Deployment:
        """The version's servers: running ones, and new ones that may not answer yet."""
        ...

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until the servers answer as this version.

        Raises:
            RunFailedError: One ended, or did not answer within `timeout` seconds.
            UnavailableError: Another program was quicker to take its port: start it again.
        """
        ...

    def memory(self, deployment: Deployment) -> int:
        """Bytes that the largest of the servers uses now."""
        ...

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, `drain_timeout` seconds at most, and end the servers."""
        ...

    def list(self, name: str | None = None) -> list[Deployment]:
        """Each server of one model or of all, whatever its state, oldest version first."""
        ...

    def clean(self, name: str, keep: set[int]) -> None:
        """Remove what is left of versions of the model other than these, and of killed calls."""
        ...

    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The end of what the version's server wrote."""
        ...


def ask(address: str, path: str) -> dict[str, Any] | None:
    """What a server answers to a GET, as a JSON object; None when it does not."""
    answer = _get(address, path)
    if answer is None or answer[0] != HTTPStatus.OK:
        return None
    try:
        content = json.loads(answer[1])
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def pings(address: str) -> bool:
    """Whether some model answers there, whichever it is."""
    answer = _get(address, "/ping")
    return answer is not None and answer[0] == HTTPStatus.OK


def _get(address: str, path: str) -> tuple[int, bytes] | None:
    host, _, port = address.rpartition(":")
    return http.get(int(port), path, host=host)
