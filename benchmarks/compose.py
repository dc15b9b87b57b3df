"""How long the compose stack takes to be up from built images, and how much memory it uses idle.

Run it as `.venv/bin/python -m benchmarks.compose`, after `docker compose build`. It uses its own
project and ports, and removes the project at the end. Memory is what the engine counts.
"""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from uuid import uuid4

from benchmarks import machine
from tasks.base.settings import REPOSITORY
from tasks.stack.embedded import ports

PORTS = ("GATEWAY", "AIRFLOW", "MLFLOW", "STORE", "POSTGRES")
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
SETTLE_S = 30
GOAL_S, GOAL_GB = 90, 2.0


def main() -> None:
    """Print both tables."""
    name = f"mlops-benchmark-{uuid4().hex[:6]}"
    os.environ |= {f"MLOPS_{port}_PORT": str(ports.unused()) for port in PORTS}
    os.environ |= {"COMPOSE_PROJECT_NAME": name, "COMPOSE_PROGRESS": "quiet"}
    try:
        up = partial(_docker, "compose", "up", "-d", "--wait")
        empty = machine.timed(up)
        time.sleep(SETTLE_S)
        memory_of = memory(name)
        again = machine.timed(up)
        _docker("compose", "down", "--remove-orphans")
        used = machine.timed(up)
    finally:
        _docker("compose", "down", "-v", "--remove-orphans")
    print(f"{machine.describe()}\n")
    print("| `docker compose up -d --wait` | s | goal |")
    print("|---|---:|---:|")
    print(f"| empty volumes | {empty:.1f} | {GOAL_S} |")
    print(f"| used volumes | {used:.1f} | {GOAL_S} |")
    print(f"| already running | {again:.1f} | |\n")
    print("| idle memory | MB |")
    print("|---|---:|")
    for service, size in sorted(memory_of.items(), key=lambda item: -item[1]):
        print(f"| {service} | {size / 1e6:.0f} |")
    print(f"| all (goal {GOAL_GB * 1000:.0f}) | {sum(memory_of.values()) / 1e6:.0f} |")


def memory(project: str) -> dict[str, float]:
    """Bytes of memory of each running container of a project, as counted by the engine."""
    lines = _docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}").splitlines()
    used = {name: text for name, text, *_ in map(str.split, lines) if name.startswith(project)}
    return {name.removeprefix(f"{project}-"): _bytes(text) for name, text in used.items()}


def _bytes(text: str) -> float:
    unit = next(unit for unit in UNITS if text.endswith(unit))
    return float(text.removesuffix(unit)) * UNITS[unit]


def _docker(*words: str) -> str:
    done = subprocess.run(
        ["docker", *words], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
