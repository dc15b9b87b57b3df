"""How much memory this machine or container has, and how much of it processes hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

MEGABYTE, GIGABYTE = 2**20, 2**30
CGROUPS = Path("/sys/fs/cgroup")


def total() -> int:
    """Bytes of memory of this machine, or of this container if it has less."""
    return min([psutil.virtual_memory().total, *_cgroup_limits()])


def held(pids: list[int]) -> int:
    """Bytes that processes hold in memory; one that has ended holds none."""
    used = 0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            used += psutil.Process(pid).memory_info().rss
    return used


def tree(pid: int) -> list[int]:
    """A process and all that descend from it (on Linux; elsewhere the process alone)."""
    found = [pid]
    for parent in found:  # it grows meanwhile
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended
                found += map(int, file.read_text().split())
    return found


def kernel_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started (Linux only)."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def text(size: int) -> str:
    """An amount as people write it."""
    if size < GIGABYTE:
        return f"{size / MEGABYTE:.0f} MB"
    return f"{size / GIGABYTE:.3g} GB"


def _cgroup_limits() -> Iterator[int]:
    """Limits of the control groups that this process is in, of either version (Linux only)."""
    memberships: list[str] = []
    with suppress(OSError):
        memberships = Path("/proc/self/cgroup").read_text().splitlines()
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, file = CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for one in (group, *group.parents):
            # In a container the path is that of the host, and the top is the container's own.
            with suppress(OSError, ValueError):  # "max": no limit
                yield int((folder / one / file).read_text())
