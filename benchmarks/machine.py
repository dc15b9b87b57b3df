"""The machine that a benchmark runs on, and its clock."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path


def describe() -> str:
    """One line: processor, cores, memory, system, Python."""
    info = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}"
    )


def timed(action: Callable[[], object]) -> float:
    """How many seconds an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
