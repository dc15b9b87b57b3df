"""`up` and `down` of the embedded stack."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from tasks.base.errors import UnavailableError
from tasks.base.settings import REPOSITORY
from tasks.stack.embedded import leftovers, postgres
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import SERVICES
from tasks.stack.embedded.startup import Report, Startup
from tasks.stack.embedded.supervisor import Supervisor

_TIMEOUT_S = 300.0


def start(only: Iterable[str] = SERVICES, report: Report = print) -> bool:
    """Start the services in `only` and wait until they are healthy.

    Returns whether the stack was down before. If the start fails or is interrupted, whatever it
    has started is stopped again.
    """
    home = Home.of_settings()
    with home.lock():
        startup = Startup(home, frozenset(only), report, time.monotonic() + _TIMEOUT_S)
        try:
            startup.run()
        except BaseException:
            _undo(startup)
            raise
    return startup.was_down


def start_in_background() -> None:
    """Start the stack in a separate process, which writes `logs/up.log`."""
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


def down(*, wipe: bool = False, report: Report = print) -> bool:
    """Stop everything; returns whether anything ran. `wipe` also removes the state folder."""
    home = Home.of_settings()
    if not home.root.exists():
        return False
    with home.lock():
        ran = _stop_all(home, report)
        if wipe:
            postgres.wipe(home)
            shutil.rmtree(home.root)
    if not home.sockets.is_relative_to(home.root):
        shutil.rmtree(home.sockets, ignore_errors=True)
    return ran


def _undo(startup: Startup) -> None:
    startup.cancel_migration()
    if startup.was_down:
        startup.report("stopping what was started")
        _stop_all(startup.home, startup.report)
    else:
        with suppress(UnavailableError):
            startup.supervisor.stop(startup.started)


def _stop_all(home: Home, report: Report) -> bool:
    """Stop clients before servers, so that no client records the loss of its server."""
    supervisor = Supervisor(home)
    was_running = supervisor.pid() is not None
    processes = leftovers.find(home)
    with suppress(UnavailableError):
        programs = set(supervisor.programs())
        storage = {"postgres", "store"} & programs
        tracking = {"mlflow"} & programs
        for wave in (programs - storage - tracking, tracking, storage):
            if wave:
                report(f"stopping {', '.join(sorted(wave))}")
                supervisor.stop(wave)
        supervisor.shutdown()
        deadline = time.monotonic() + 10
        while supervisor.pid() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
    return bool(leftovers.end(home, processes)) or was_running
