"""What runs the servers of model versions: processes of the embedded stack, or containers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, Protocol

from tasks.errors import UserError
from tasks.pipeline.schema import Builder, Serving
from tasks.settings import settings
from tasks.stack import health

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


def of(serving: Serving) -> Target:
    """The target that a pipeline asks for, by default the stack's.

    Raises:
        UserError: This stack has no such target.
    """
    if (serving.target or settings().target) == "docker":
        return _containers()
    if settings().stack != "embedded":
        raise UserError(
            "The 'serving.target' field must be docker or null on this stack.",
            why="Only the embedded stack (./mlops up) has a supervisor for processes.",
        )
    return _processes()


def of_settings() -> Target:
    """The stack's own target."""
    return of(Serving())


def in_use(serving: Serving) -> list[Target]:
    """The targets that may hold servers of a model: the one it asks for first.

    Docker is left alone by a stack that was not told to use it: the containers that carry our
    labels there may be another stack's.
    """
    kind = serving.target or settings().target
    found = [of(serving)]
    if settings().stack == "embedded" and kind != "process":
        found.append(_processes())
    if settings().target == "docker" and kind != "docker":
        found.append(_containers())
    return found


def _processes() -> Target:
    from tasks.serving.process import ProcessTarget

    return ProcessTarget()


def _containers() -> Target:
    from tasks.serving.container import ContainerTarget

    return ContainerTarget()


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
    return health.get(int(port), path, host=host)
