"""Waiting for a condition, a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.errors import UnavailableError


def until(holds: Callable[[], object], timeout: float, what: str) -> None:
    """Poll until `holds()`; a server that does not answer meanwhile is no answer."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if holds():
                return
        except UnavailableError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain until {what}")
        time.sleep(0.2)
