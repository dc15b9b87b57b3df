"""How long the embedded stack takes to be up, and how much memory it holds idle.

Run it as `.venv/bin/python -m benchmarks.stack`; it uses a state folder of its own.
Memory is PSS (shared pages counted in proportion), so Linux only; each program with its children.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tasks.base.settings import settings
from tasks.stack.embedded import lifecycle, ports
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.supervisor import Supervisor

SETTLE_S = 30
GOAL_S, GOAL_GB = 60, 2.0


def main() -> None:
    """Print both tables."""
    with own_home() as home:
        empty = _timed_start()
        _timed(lambda: lifecycle.down(report=quiet))
        used = _timed_start()
        again = _timed_start()
        time.sleep(SETTLE_S)
        memory = _memory(home)
        end = _timed(lambda: lifecycle.down(report=quiet))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| from `up` to healthy | s | goal |")
    print("|---|---:|---:|")
    print(f"| empty state folder | {empty:.1f} | {GOAL_S} |")
    print(f"| used state folder | {used:.1f} | {GOAL_S} |")
    print(f"| running already | {again:.1f} | |")
    print(f"| `down` | {end:.1f} | 20 |\n")
    print("| idle memory | processes | PSS, MB |")
    print("|---|---:|---:|")
    for name, (count, size) in sorted(memory.items(), key=lambda item: -item[1][1]):
        print(f"| {name} | {count} | {size / 1e6:.0f} |")
    total = sum(size for _, size in memory.values())
    print(
        f"| all (goal {GOAL_GB * 1000:.0f}) | {sum(n for n, _ in memory.values())} "
        f"| {total / 1e6:.0f} |"
    )


@contextmanager
def own_home() -> Iterator[Home]:
    """A state folder and ports of its own; what was started there is ended and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mlops-benchmark-") as folder:
        home = Home(Path(folder) / "home")
        os.environ["MLOPS_HOME"] = str(home.root)
        settings.cache_clear()
        home.create()
        ports.save(home, ports.Ports(*(ports.unused() for _ in range(5))))
        try:
            yield home
        finally:
            lifecycle.down(wipe=True, report=quiet)


def _timed_start() -> float:
    return _timed(lambda: lifecycle.start(report=quiet))


def _timed(action: object) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _memory(home: Home) -> dict[str, tuple[int, int]]:
    supervisor = Supervisor(home)
    roots = {name: one.pid for name, one in supervisor.programs().items() if one.pid}
    found = {}
    for name, pid in roots.items():
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        found[name] = (len(family), sum(one.memory_full_info().pss for one in family))
    pid = supervisor.pid()
    found["supervisord"] = (1, psutil.Process(pid).memory_full_info().pss)
    return found


def quiet(text: str) -> None:
    """Report nothing."""
    del text


if __name__ == "__main__":
    main()
