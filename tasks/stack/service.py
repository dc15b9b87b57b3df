"""A service of either stack as users see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """A service; `state` is running, starting, stopped or failed."""

    url: str
    state: str
    pid: int | None


def running(services: Mapping[str, Service]) -> bool:
    """Whether every service is running."""
    return all(service.state == "running" for service in services.values())
