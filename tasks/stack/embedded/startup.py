"""The order in which `up` starts the programs, and its waiting until they are healthy."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import NoReturn

from tasks.base.errors import MlopsError
from tasks.base.settings import settings
from tasks.stack import health
from tasks.stack.embedded import airflow, leftovers, logs, ports, postgres, services
from tasks.stack.embedded.home import Home, write_private
from tasks.stack.embedded.program import Program
from tasks.stack.embedded.services import AIRFLOW, CORE, Stack
from tasks.stack.embedded.status import checks, status
from tasks.stack.embedded.supervisor import Supervisor

Report = Callable[[str], None]
_CRASHING_S = 15.0
"""A program that keeps failing for this long is given up."""


class Startup:
    """One start; keeps track of what it has started."""

    def __init__(self, home: Home, only: frozenset[str], report: Report, deadline: float) -> None:
        self.home, self.only, self.report, self.deadline = home, only, report, deadline
        self.supervisor = Supervisor(home)
        self.was_down = False
        self.started: list[str] = []
        self._running: set[str] = set()
        self._migration: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Start what is not running, and wait until all of `only` is healthy."""
        self._start_supervisor()
        self._settle_ports()
        if self.was_down or not self._all_healthy():
            self._start_independent_servers()
            self._start_clients_of_postgres()
            self._wait_for_the_rest()
        self._restart_model_servers()

    def cancel_migration(self) -> None:
        """End the migration of Airflow's database if it is running."""
        if self._migration:
            self._migration.kill()
            self._migration.wait()

    def _start_supervisor(self) -> None:
        if self.supervisor.pid() is None:
            if count := leftovers.end(self.home):
                self.report(f"ended {count} processes of a stack that was killed")
            self.was_down = True
            leftovers.record(self.home, self.supervisor.start())
        states = self.supervisor.programs()
        self._running = {name for name, state in states.items() if state.pid}

    def _settle_ports(self) -> None:
        """Choose the ports, and write the variables that depend on them."""
        running = {"airflow" if name == "airflow-api-server" else name for name in self._running}
        chosen, moved = ports.settle(self.home, frozenset(running))
        for service, port in moved.items():
            self.report(f"port {port} is taken: {service} moves to {getattr(chosen, service)}")
        self.stack = Stack(self.home, chosen)
        self.checks = checks(self.stack)
        lines = [f"{name}={_quoted(value)}\n" for name, value in self.stack.variables().items()]
        if write_private(self.home.env_file, "".join(lines)):
            settings.cache_clear()

    def _all_healthy(self) -> bool:
        states = status()
        return all(states[name].state == "running" for name in self.only)

    def _start_independent_servers(self) -> None:
        """PostgreSQL, the store and the gateway."""
        stack = self.stack
        if "postgres" in self.only:
            postgres.prepare(self.home)
            self._add(postgres.program(self.home, stack.ports.postgres))
        if "store" in self.only:
            for bucket in services.BUCKETS:
                (self.home.store / bucket).mkdir(mode=0o700, exist_ok=True)
            self._add(services.store(stack))
        if "gateway" in self.only:
            self._add(services.gateway(stack))
        if "postgres" in self.only:
            superuser = postgres.dsn(self.home, stack.ports.postgres, postgres.SUPERUSER)
            self._wait("postgres", stack.ports.postgres, lambda: health.postgres(superuser))
            postgres.create_roles(self.home, stack.ports.postgres)

    def _start_clients_of_postgres(self) -> None:
        """MLflow and Airflow; the scheduler last, because its tasks need the api-server."""
        stack = self.stack
        if "airflow" in self.only:
            self._migration = airflow.migration(stack)
        if "mlflow" in self.only:
            self._add(services.mlflow(stack))
        if "postgres" in self.only:
            from tasks.clients import database

            database.migrate(
                postgres.dsn(self.home, stack.ports.postgres, postgres.SUPERUSER, "mlops")
            )
        if "airflow" in self.only:
            airflow.write_password(stack)
            airflow.finish_migration(stack, self._migration)
            programs = airflow.programs(stack)
            scheduler = programs.pop("airflow-scheduler")
            for program in programs.values():
                self._add(program)
            port = stack.ports.airflow
            self._wait("airflow-api-server", port, lambda: bool(health.airflow(port)))
            airflow.create_pool(stack)
            self._add(scheduler)

    def _wait_for_the_rest(self) -> None:
        for service in ("store", "mlflow", "gateway"):
            if service in self.only:
                self._wait(service, getattr(self.stack.ports, service), self.checks[service])
        if "airflow" in self.only:
            for program in AIRFLOW[1:]:
                self._wait(program, None, self.checks["airflow"])

    def _restart_model_servers(self) -> None:
        for name, state in self.supervisor.programs().items():
            if name not in CORE and not state.pid and self.supervisor.start_program(name):
                self.started.append(name)

    def _add(self, program: Program) -> None:
        if program.name not in self._running:
            self.supervisor.add(program)
            self.started.append(program.name)

    def _wait(self, program: str, port: int | None, healthy: Callable[[], bool]) -> None:
        """Wait until a program answers, and it is this program that listens on the port."""
        began = failing_since = time.monotonic()
        while True:
            state = self.supervisor.programs()[program]
            if state.pid and healthy() and (port is None or health.listens(state.pid, port)):
                break
            moment = time.monotonic()
            if state.state not in ("BACKOFF", "FATAL"):
                failing_since = moment
            if moment > self.deadline or moment > failing_since + _CRASHING_S:
                self._give_up(program, moment - began)
            time.sleep(0.1)
        if program in self.started:
            self.report(f"{program} is healthy")

    def _give_up(self, program: str, seconds: float) -> NoReturn:
        log = self.home.logs / f"{program}.log"
        raise MlopsError(
            f"{program} is not healthy after {seconds:.0f} s.",
            why=logs.tail(log) or "It did not start.",
            fix=f"See {log}, or run `./mlops doctor`. If its port was taken in the meantime, the "
            "next `./mlops up` chooses another.",
        )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
