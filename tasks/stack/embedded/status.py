"""What of the embedded stack runs, and whether it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tasks.base.errors import UnavailableError
from tasks.stack import health
from tasks.stack.embedded import ports, postgres
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import AIRFLOW, SERVICES, Stack
from tasks.stack.embedded.supervisor import ProgramState, Supervisor
from tasks.stack.service import Service

PATIENCE_S = 120.0
"""A program that runs and does not answer is starting for this long, then it has failed."""
_SEVERITY = ("running", "starting", "stopped", "failed")


def status() -> dict[str, Service]:
    """Ask supervisord for the processes and every server whether it answers, all at once."""
    home = Home.of_settings()
    stack = Stack(home, ports.load(home))
    known = _programs(home)
    checks = _checks(stack) if known else {}
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        pending = {name: pool.submit(check) for name, check in checks.items()}
        healthy = {name: future.result() for name, future in pending.items()}
    return {
        name: _service(stack, name, known, healthy=healthy.get(name, False)) for name in SERVICES
    }


def _programs(home: Home) -> dict[str, ProgramState]:
    if not home.run.exists():
        return {}
    try:
        return Supervisor(home).programs()
    except UnavailableError:
        return {}


def _checks(stack: Stack) -> dict[str, Callable[[], bool]]:
    where = stack.ports
    return {
        "postgres": lambda: health.postgres(postgres.dsn(stack.home, where.postgres, "mlops")),
        "store": lambda: health.store(where.store),
        "mlflow": lambda: health.mlflow(where.mlflow),
        "airflow": lambda: health.all_parts(health.airflow(where.airflow)),
        "gateway": lambda: health.gateway(where.gateway),
    }


def _service(
    stack: Stack, name: str, known: Mapping[str, ProgramState], *, healthy: bool
) -> Service:
    programs = AIRFLOW if name == "airflow" else (name,)
    states = [_state(known.get(program), healthy=healthy) for program in programs]
    first = known.get(programs[0])
    return Service(stack.url(name), max(states, key=_SEVERITY.index), first.pid if first else None)


def _state(program: ProgramState | None, *, healthy: bool) -> str:
    if program is None or program.state in ("STOPPED", "STOPPING"):
        return "stopped"
    if program.state not in ("RUNNING", "STARTING"):
        return "failed"
    if healthy:
        return "running"
    return "starting" if program.uptime_s < PATIENCE_S else "failed"
