"""How much memory this machine or container has, and how much of it processes use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

MEGABYTE, GIGABYTE = 2**20, 2**30
CGROUPS = Path("/sys/fs/cgroup")


def total() -> int:
    """Bytes of memory that this machine has, or this container if it is limited to less."""
    return min([psutil.virtual_memory().total, *_cgroup_limits()])


def held(pids: list[int]) -> int:
    """Resident bytes of processes; a process that has ended counts as 0."""
    used = 0
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            used += psutil.Process(pid).memory_info().rss
    return used


def tree(pid: int) -> list[int]:
    """A process and its descendants (on Linux; elsewhere only the process)."""
    pids = [pid]
    for parent in pids:  # the list grows during the loop
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended
                pids += map(int, file.read_text().split())
    return pids


def kernel_kills() -> int:
    """How many processes the kernel has killed for lack of memory since boot (Linux only)."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def text(size: int) -> str:
    """A size in bytes as people write it."""
    if size < GIGABYTE:
        return f"{size / MEGABYTE:.0f} MB"
    return f"{size / GIGABYTE:.3g} GB"


def _cgroup_limits() -> Iterator[int]:
    """Memory limits of this process's control groups, version 1 or 2 (Linux only)."""
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
        for ancestor in (group, *group.parents):
            # Inside a container the path is the host's, and the root is the container's own group.
            with suppress(OSError, ValueError):  # "max": no limit
                yield int((folder / ancestor / file).read_text())
