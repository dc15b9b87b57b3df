"""The state of the embedded stack's services."""

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
"""How long a program that runs but does not answer is starting; after that it has failed."""
_SEVERITY = ("running", "starting", "stopped", "failed")


def status() -> dict[str, Service]:
    """Every service; all servers are asked at the same time whether they answer."""
    home = Home.of_settings()
    stack = Stack(home, ports.load(home))
    programs = _programs(home)
    pending = checks(stack) if programs else {}
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        healthy = dict(zip(pending, pool.map(lambda check: check(), pending.values()), strict=True))
    return {
        name: _service(stack, name, programs, healthy=healthy.get(name, False)) for name in SERVICES
    }


def checks(stack: Stack) -> dict[str, Callable[[], bool]]:
    """Whether each service answers."""
    listening = stack.ports
    return {
        "postgres": lambda: health.postgres(postgres.dsn(stack.home, listening.postgres, "mlops")),
        "store": lambda: health.store(listening.store),
        "mlflow": lambda: health.web(listening.mlflow),
        "airflow": lambda: health.all_parts(health.airflow(listening.airflow)),
        "gateway": lambda: health.web(listening.gateway),
    }


def _programs(home: Home) -> dict[str, ProgramState]:
    if not home.run.exists():
        return {}
    try:
        return Supervisor(home).programs()
    except UnavailableError:
        return {}


def _service(
    stack: Stack, name: str, known: Mapping[str, ProgramState], *, healthy: bool
) -> Service:
    programs = [known.get(program) for program in (AIRFLOW if name == "airflow" else (name,))]
    states = [_state(program, healthy=healthy) for program in programs]
    pid = programs[0].pid if programs[0] else None
    return Service(stack.url(name), max(states, key=_SEVERITY.index), pid)


def _state(program: ProgramState | None, *, healthy: bool) -> str:
    if program is None or program.state in ("STOPPED", "STOPPING"):
        return "stopped"
    if program.state not in ("RUNNING", "STARTING"):
        return "failed"
    if healthy:
        return "running"
    return "starting" if program.uptime_s < PATIENCE_S else "failed"
