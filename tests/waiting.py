"""Waiting for a condition, for a bounded time."""

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
    """Poll until `holds()` is true and return its value; an unavailable server counts as false.

    The pauses grow with the waiting time, because each question costs the asked process CPU time.
    """
    began = time.monotonic()
    while True:
        try:
            if value := holds():
                return value
        except (UnavailableError, httpx.TransportError):
            pass
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(f"Timed out after {timeout} s waiting until {what}.")
        time.sleep(min(0.1 + waited / 40, 0.6))


def pid_once(read: Callable[[], int | None], what: str) -> int:
    """Wait for a process's id. A signal to the id 0 would strike the tests' own process group."""
    return until(lambda: read() or 0, 60, f"{what} runs")


def of_living(read: Callable[[psutil.Process], T], processes: Iterable[psutil.Process]) -> list[T]:
    """What `read` returns for each process; those that have ended are left out."""
    values = []
    for process in processes:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            values.append(read(process))
    return values
