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
YOUNG_S = 30.0
"""A server that started this recently may still be loading its model."""
PATIENCE = 3
"""Attempts, of a few seconds each, before a silent server counts as stuck: a busy one is slow."""
_STATUS_EVERY_S = 0.5
_READY_EVERY_S = 0.1


@dataclass(frozen=True)
class Deployment:
    """The servers of one version."""

    name: str
    version: int
    addresses: tuple[str, ...]
    """host:port of each, as tasks and the gateway reach them."""
    state: State
    builder: Builder = "mlops"
    """Whose server it is: MLflow's own reports neither its version nor what it is doing."""
    young: bool = field(default=False, compare=False)
    """Whether it may still be loading its model, though it counts as running."""

    @property
    def address(self) -> str:
        """The address of the first server."""
        return self.addresses[0]

    def answers(self) -> bool:
        """Whether all servers answer as this version; another program may have taken a port."""
        return all(self._answers(address) for address in self.addresses)

    def is_stuck(self, age_s: float) -> bool:
        """Whether servers that started `age_s` seconds ago should answer by now, but do not."""
        return age_s >= YOUNG_S and not any(self.answers() for _ in range(PATIENCE))

    def wait_for_answers(self, timeout: float, ended: Callable[[], bool]) -> str:
        """Wait until all servers answer; says why they do not, or nothing when they do."""
        deadline = time.monotonic() + timeout
        while not self.answers():
            if ended():
                return "ended before it answered"
            if time.monotonic() > deadline:
                return f"does not answer after {timeout:.0f} s"
            time.sleep(_READY_EVERY_S)
        return ""

    def drain(self, timeout: float, runs: Callable[[], bool]) -> None:
        """Wait until the servers are idle or have ended, at most `timeout` seconds.

        MLflow's server does not report its requests, so it always gets the full time.
        """
        deadline = time.monotonic() + timeout
        previous: object = None
        while time.monotonic() < deadline and runs():
            statuses = [ask(address, "/status") for address in self.addresses]
            idle = all(status is None or status["inflight"] == 0 for status in statuses)
            # Idle twice, and nothing came and went in between: nobody sends requests any more.
            if statuses == previous and idle and self.builder == "mlops":
                return
            previous = statuses
            time.sleep(min(_STATUS_EVERY_S, max(0.0, deadline - time.monotonic())))

    def _answers(self, address: str) -> bool:
        if self.builder == "mlflow":
            return pings(address)
        identity = ask(address, "/version") or {}
        return (identity.get("name"), identity.get("version")) == (self.name, self.version)


@dataclass(frozen=True)
class Comparison:
    """A version's servers, compared with how the pipeline file asks for them."""

    running: Deployment | None
    """What `start` would return, if it would neither start nor replace a server."""
    surplus: frozenset[str] = frozenset()
    """Addresses of servers that `start` would not use: other settings, or too many replicas."""


class Target(Protocol):
    """Starts and stops servers. Every call can be repeated."""

    def build(self, name: str, version: int, serving: Serving) -> dict[str, str]:
        """Make what `start` needs and takes long: an image.

        Returns:
            Facts about it, for the run's tags.

        Raises:
            RunFailedError: The version cannot be built.
        """
        ...

    def compare(self, name: str, version: int, serving: Serving) -> Comparison:
        """Compare the version's servers with what `start` would make of them."""
        ...

    def start(self, name: str, version: int, serving: Serving) -> Deployment:
        """The version's servers: running ones, and new ones that may not answer yet."""
        ...

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until the servers answer as this version.

        Raises:
            RunFailedError: One ended, or did not answer within `timeout` seconds.
            UnavailableError: Another program took its port first; start it again.
        """
        ...

    def memory(self, deployment: Deployment) -> int:
        """Bytes that the largest of the servers uses at the moment."""
        ...

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, at most `drain_timeout` seconds, and end the servers."""
        ...

    def list(self, name: str | None = None) -> list[Deployment]:
        """Each server of one model or of all, whatever its state, oldest version first."""
        ...

    def stored(self, name: str) -> frozenset[int | None]:
        """Versions of the model that have something stored; None: leftovers of killed calls."""
        ...

    def clean(self, name: str, keep: frozenset[int]) -> None:
        """Remove what is stored for other versions of the model, and what killed calls left."""
        ...

    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The last lines of the version's server log."""
        ...


def ask(address: str, path: str) -> dict[str, Any] | None:
    """A server's JSON object in answer to a GET; None without one."""
    answer = _get(address, path)
    if answer is None or answer[0] != HTTPStatus.OK:
        return None
    try:
        content = json.loads(answer[1])
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def pings(address: str) -> bool:
    """Whether a model answers at the address, whichever it is."""
    answer = _get(address, "/ping")
    return answer is not None and answer[0] == HTTPStatus.OK


def _get(address: str, path: str) -> tuple[int, bytes] | None:
    host, _, port = address.rpartition(":")
    return http.get(int(port), path, host=host)
