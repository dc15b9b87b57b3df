"""How long the compose stack takes to be up from built images, and how much memory it holds idle.

Run it as `.venv/bin/python -m benchmarks.compose`, after `docker compose build`; it uses a project
and ports of its own, and removes them. Memory is what the engine counts.
"""

from __future__ import annotations

import os
import subprocess
import time
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
        empty = _up()
        time.sleep(SETTLE_S)
        held = memory(name)
        again = _up()
        _docker("compose", "down", "--remove-orphans")
        used = _up()
    finally:
        _docker("compose", "down", "-v", "--remove-orphans")
    print(f"{machine.describe()}\n")
    print("| `docker compose up -d --wait` | s | goal |")
    print("|---|---:|---:|")
    print(f"| empty volumes | {empty:.1f} | {GOAL_S} |")
    print(f"| used volumes | {used:.1f} | {GOAL_S} |")
    print(f"| running already | {again:.1f} | |\n")
    print("| idle memory | MB |")
    print("|---|---:|")
    for service, size in sorted(held.items(), key=lambda item: -item[1]):
        print(f"| {service} | {size / 1e6:.0f} |")
    print(f"| all (goal {GOAL_GB * 1000:.0f}) | {sum(held.values()) / 1e6:.0f} |")


def _up() -> float:
    began = time.perf_counter()
    _docker("compose", "up", "-d", "--wait")
    return time.perf_counter() - began


def memory(project: str) -> dict[str, float]:
    """Bytes of memory of each running container of a project, as the engine counts them."""
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
