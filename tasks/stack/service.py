"""A service of either stack, as its users see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Service:
    """One service as its users see it; `state` is running, starting, stopped or failed."""

    url: str
    state: str
    pid: int | None


def running(services: Mapping[str, Service]) -> bool:
    """Whether every service runs."""
    return all(service.state == "running" for service in services.values())
