"""Processes that are left of a stack whose supervisord was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from tasks.stack.embedded.home import Home, write_private
from tasks.stack.embedded.program import MARK

_ROUNDS = 5


def record(home: Home, pid: int) -> None:
    """Record the session that supervisord leads; its programs belong to it."""
    session = {"pid": pid, "started": psutil.Process(pid).create_time(), "boot": psutil.boot_time()}
    write_private(_file(home), json.dumps(session))


def find(home: Home) -> list[psutil.Process]:
    """The processes of the stack: those in supervisord's session, and those with its mark.

    Both are needed. Some processes overwrite their environment with their title (PostgreSQL,
    Airflow's workers), and some leave the session.
    """
    excluded = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    session = _session(home)
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in excluded and _belongs(process, session, home.root)
    ]


def end(home: Home, known: Iterable[psutil.Process] = ()) -> int:
    """Terminate them, then kill the rest; returns how many there were.

    Args:
        home: The stack's folder.
        known: Processes that belonged to the stack earlier. What overwrites its environment later,
            as PostgreSQL's processes do, cannot be found any more once its parent has ended.
    """

    def alive() -> set[psutil.Process]:
        return {*find(home), *filter(_is_alive, known)}

    processes = alive()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, survivors = psutil.wait_procs(processes, timeout=3)
    remaining = set(survivors)
    for _ in range(_ROUNDS):
        for process in remaining:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(remaining, timeout=3)
        remaining = alive()  # also processes that were started in the meantime
        if not remaining:
            break
    return len(processes)


def _session(home: Home) -> int | None:
    """The id of the recorded session, unless another process has that id by now."""
    path = _file(home)
    if not path.exists():
        return None
    recorded = json.loads(path.read_text())
    if abs(psutil.boot_time() - recorded["boot"]) > 5:
        return None
    try:
        leader = psutil.Process(recorded["pid"])
    except psutil.NoSuchProcess:
        return int(recorded["pid"])
    return leader.pid if abs(leader.create_time() - recorded["started"]) < 1 else None


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _belongs(process: psutil.Process, session: int | None, root: Path) -> bool:
    try:
        return _is_alive(process) and (
            os.getsid(process.pid) == session or process.environ().get(MARK) == str(root)
        )
    except (psutil.Error, OSError):  # it has ended, or belongs to another user
        return False


def _file(home: Home) -> Path:
    return home.run / "session.json"
