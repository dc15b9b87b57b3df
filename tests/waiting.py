"""Waiting for a condition, a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import httpx
import psutil

from tasks.base.errors import UnavailableError

T = TypeVar("T")


def until(holds: Callable[[], T], timeout: float, what: str) -> T:
    """Poll until `holds()`, and return that; a server that does not answer is no answer.

    The longer it takes the more rarely it asks, as each question costs the asked their time.
    """
    began = time.monotonic()
    while True:
        try:
            if found := holds():
                return found
        except (UnavailableError, httpx.TransportError):
            pass
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(f"waited {timeout} s in vain until {what}")
        time.sleep(min(0.1 + waited / 40, 0.6))


def pid_once(read: Callable[[], int | None], what: str) -> int:
    """Wait for a process's id: to signal 0 instead would strike the tests' own group."""
    return until(lambda: read() or 0, 60, f"{what} runs")


def of_living(read: Callable[[psutil.Process], T], processes: Iterable[psutil.Process]) -> list[T]:
    """What is read of each process, but for those that end meanwhile."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            found.append(read(process))
    return found
