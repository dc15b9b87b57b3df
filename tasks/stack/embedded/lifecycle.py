"""`up` and `down`: in which order, and waiting until all is healthy."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from tasks.base.errors import MlopsError, UnavailableError
from tasks.base.settings import REPOSITORY, settings
from tasks.stack import health
from tasks.stack.embedded import airflow, leftovers, logs, ports, postgres, services
from tasks.stack.embedded.home import Home, write_private
from tasks.stack.embedded.services import AIRFLOW, CORE, SERVICES, Stack
from tasks.stack.embedded.status import status
from tasks.stack.embedded.supervisor import Program, Supervisor

Report = Callable[[str], None]
TIMEOUT_S = 300.0
_CRASHING_S = 15.0
"""A program that fails for so long without a break is given up."""


def start(
    only: Iterable[str] = SERVICES, report: Report = print, timeout_s: float = TIMEOUT_S
) -> bool:
    """Start what does not run and wait until all of `only` is healthy.

    Tells whether the stack was down before. What this call started is stopped again when it fails
    or is interrupted.
    """
    home = Home.of_settings()
    with home.lock():
        attempt = _Start(home, frozenset(only), report, time.monotonic() + timeout_s)
        try:
            attempt.run()
        except BaseException:
            attempt.undo()
            raise
    return attempt.led


def start_in_background() -> None:
    """Start the stack by a process of its own, which writes `logs/up.log`."""
    home = Home.of_settings()
    home.create()
    with (home.logs / "up.log").open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "tasks.cli", "up"],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class _Start:
    """One start, and what it has to undo when it does not come to its end."""

    def __init__(self, home: Home, only: frozenset[str], report: Report, deadline: float) -> None:
        self.home, self.only, self.report, self.deadline = home, only, report, deadline
        self.supervisor = Supervisor(home)
        self.running: set[str] = set()
        self.started: list[str] = []
        self.led = False
        self.migration: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        pid = self.supervisor.pid()
        if pid is None:
            if count := leftovers.end(self.home):
                self.report(f"ended {count} processes of a stack that was killed")
            pid = self._supervise()
        self.running = {name for name, one in self.supervisor.programs().items() if one.pid}
        known, moved = ports.settle(self.home, frozenset(map(_service, self.running)))
        for service, port in moved.items():
            self.report(f"port {port} is taken: {service} moves to {getattr(known, service)}")
        self.stack = Stack(self.home, known)
        self._write_env()
        if not self.led:
            found = status()
            if all(found[name].state == "running" for name in self.only):
                self._models()
                return
        self._first()
        self._second()
        self._others()
        self._models()

    def undo(self) -> None:
        if self.migration:
            self.migration.kill()
            self.migration.wait()
        if self.led:
            self.report("stopping what was started")
            _end(self.home, self.supervisor, self.report)
        else:
            with suppress(UnavailableError):
                self.supervisor.stop(self.started)

    def _supervise(self) -> int:
        self.led = True
        pid = self.supervisor.start()
        leftovers.record(self.home, pid)
        return pid

    def _write_env(self) -> None:
        lines = [f"{name}={_quoted(value)}" for name, value in self.stack.variables().items()]
        text = "\n".join([*lines, ""])
        if not self.home.env_file.exists() or self.home.env_file.read_text() != text:
            write_private(self.home.env_file, text)
            settings.cache_clear()

    def _first(self) -> None:
        """Servers that need no other: PostgreSQL, the store, the gateway."""
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

    def _second(self) -> None:
        """MLflow and Airflow, which need PostgreSQL.

        The scheduler comes after the api-server: its tasks need that, and would fail without.
        """
        stack = self.stack
        if "airflow" in self.only:
            self.migration = airflow.migration(stack)
        if "mlflow" in self.only:
            self._add(services.mlflow(stack))
        if "postgres" in self.only:
            from tasks.clients import database

            database.migrate(
                postgres.dsn(self.home, stack.ports.postgres, postgres.SUPERUSER, "mlops")
            )
        if "airflow" in self.only:
            airflow.write_password(stack)
            airflow.finish_migration(stack, self.migration)
            programs = airflow.programs(stack)
            for name in AIRFLOW:
                if name != "airflow-scheduler":
                    self._add(programs[name])
            self._wait(
                "airflow-api-server",
                stack.ports.airflow,
                lambda: bool(health.airflow(stack.ports.airflow)),
            )
            airflow.create_pool(stack)
            self._add(programs["airflow-scheduler"])

    def _others(self) -> None:
        """Wait for the rest."""
        where = self.stack.ports
        if "store" in self.only:
            self._wait("store", where.store, lambda: health.store(where.store))
        if "mlflow" in self.only:
            self._wait("mlflow", where.mlflow, lambda: health.mlflow(where.mlflow))
        if "gateway" in self.only:
            self._wait("gateway", where.gateway, lambda: health.gateway(where.gateway))
        if "airflow" in self.only:
            for name in AIRFLOW[1:]:
                self._wait(name, None, lambda: health.all_parts(health.airflow(where.airflow)))

    def _models(self) -> None:
        """Start the models' servers of before."""
        for name, state in self.supervisor.programs().items():
            if name not in CORE and not state.pid and self.supervisor.start_program(name):
                self.started.append(name)

    def _add(self, program: Program) -> None:
        if program.name not in self.running:
            self.supervisor.add(program)
            self.started.append(program.name)

    def _wait(self, program: str, port: int | None, healthy: Callable[[], bool]) -> None:
        """Wait until a program answers, on a port that is its own."""
        began = crashed = time.monotonic()
        while True:
            state = self.supervisor.programs()[program]
            if state.pid and healthy() and (port is None or health.listens(state.pid, port)):
                break
            now = time.monotonic()
            if state.state not in ("BACKOFF", "FATAL"):
                crashed = now
            if now > self.deadline or now > crashed + _CRASHING_S:
                self._give_up(program, now - began)
            time.sleep(0.1)
        if program in self.started:
            self.report(f"{program} is healthy")

    def _give_up(self, program: str, seconds: float) -> NoReturn:
        log = self.home.logs / f"{program}.log"
        raise MlopsError(
            f"{program} is not healthy after {seconds:.0f} s.",
            why=logs.tail(log) or "It did not start.",
            fix=f"See {log}, or run `./mlops doctor`. A port that was taken meanwhile moves at the "
            "next `./mlops up`.",
        )


def down(*, wipe: bool = False, report: Report = print) -> bool:
    """Stop everything; tells whether anything ran. `wipe` removes the state folder too."""
    home = Home.of_settings()
    if not home.root.exists():
        return False
    with home.lock():
        ran = _end(home, Supervisor(home), report)
        if wipe:
            postgres.wipe(home)
            shutil.rmtree(home.root)
    if not home.sockets.is_relative_to(home.root):
        shutil.rmtree(home.sockets, ignore_errors=True)
    return ran


def _end(home: Home, supervisor: Supervisor, report: Report) -> bool:
    """Clients before servers, so that nothing is recorded as lost that was only stopped."""
    running = supervisor.pid() is not None
    with suppress(UnavailableError):
        names = set(supervisor.programs())
        servers = ("postgres", "store", "mlflow")
        for wave in (names - set(servers), {"mlflow"} & names, {"postgres", "store"} & names):
            if wave:
                report(f"stopping {', '.join(sorted(wave))}")
                supervisor.stop(wave)
        supervisor.shutdown()
        deadline = time.monotonic() + 10
        while supervisor.pid() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    return bool(leftovers.end(home)) or running


def _service(program: str) -> str:
    return "airflow" if program == "airflow-api-server" else program


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
