"""How long the embedded stack takes to be up, and how much memory it uses when idle.

Run it as `.venv/bin/python -m benchmarks.stack`; it uses its own state folder. Memory is PSS (a
shared page counts in proportion), which exists only on Linux; programs count with their children.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import machine
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
        lifecycle.down(report=quiet)
        used = _timed_start()
        again = _timed_start()
        time.sleep(SETTLE_S)
        memory = _memory(home)
        end = machine.timed(lambda: lifecycle.down(report=quiet))
    print(f"{machine.describe()}\n")
    print("| from `up` to healthy | s | goal |")
    print("|---|---:|---:|")
    print(f"| empty state folder | {empty:.1f} | {GOAL_S} |")
    print(f"| used state folder | {used:.1f} | {GOAL_S} |")
    print(f"| already running | {again:.1f} | |")
    print(f"| `down` | {end:.1f} | 20 |\n")
    print("| idle memory | processes | PSS, MB |")
    print("|---|---:|---:|")
    for name, (count, size) in sorted(memory.items(), key=lambda item: -item[1][1]):
        print(f"| {name} | {count} | {size / 1e6:.0f} |")
    processes, total = (sum(column) for column in zip(*memory.values(), strict=True))
    print(f"| all (goal {GOAL_GB * 1000:.0f}) | {processes} | {total / 1e6:.0f} |")


@contextmanager
def own_home() -> Iterator[Home]:
    """A new state folder on unused ports; its servers are stopped and its files deleted at last."""
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
    return machine.timed(lambda: lifecycle.start(report=quiet))


def _memory(home: Home) -> dict[str, tuple[int, int]]:
    """The number of processes and the bytes of each program."""
    supervisor = Supervisor(home)
    memory = {}
    for name, state in supervisor.programs().items():
        if state.pid:
            process = psutil.Process(state.pid)
            family = [process, *process.children(recursive=True)]
            memory[name] = (len(family), sum(_pss(member) for member in family))
    memory["supervisord"] = (1, _pss(psutil.Process(supervisor.pid())))
    return memory


def _pss(process: psutil.Process) -> int:
    return process.memory_full_info().pss


def quiet(text: str) -> None:
    """Report nothing."""
    del text


if __name__ == "__main__":
    main()
