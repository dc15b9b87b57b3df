"""Processes of a stack whose supervisord was killed."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import psutil

from tasks.stack.embedded.home import Home, write_private
from tasks.stack.embedded.supervisor import MARK

_ROUNDS = 5


def record(home: Home, pid: int) -> None:
    """Remember the session that supervisord leads, and so all that it starts."""
    session = {"pid": pid, "started": psutil.Process(pid).create_time(), "boot": psutil.boot_time()}
    write_private(_file(home), json.dumps(session))


def find(home: Home) -> list[psutil.Process]:
    """Processes of the stack: those in supervisord's session, and those that carry its mark.

    Some overwrite their environment with their title (PostgreSQL, Airflow's workers), some leave
    the session.
    """
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    session = _session(home)
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in ours
        and _alive(process)
        and (_in_session(process, session) or _marked(process, home.root))
    ]


def end(home: Home) -> int:
    """End them, kindly first; tells how many there were."""
    found = find(home)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(found, timeout=3)
    for _ in range(_ROUNDS):
        for process in stubborn:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=3)
        stubborn = find(home)  # what they started meanwhile
        if not stubborn:
            break
    return len(found)


def _session(home: Home) -> int | None:
    """The recorded session's id, unless the number is by now somebody else's."""
    path = _file(home)
    if not path.exists():
        return None
    known = json.loads(path.read_text())
    if abs(psutil.boot_time() - known["boot"]) > 5:
        return None
    try:
        leader = psutil.Process(known["pid"])
    except psutil.NoSuchProcess:
        return int(known["pid"])
    return int(known["pid"]) if abs(leader.create_time() - known["started"]) < 1 else None


def _in_session(process: psutil.Process, session: int | None) -> bool:
    try:
        return session is not None and os.getsid(process.pid) == session
    except OSError:
        return False


def _marked(process: psutil.Process, root: Path) -> bool:
    try:
        return process.environ().get(MARK) == str(root)
    except (psutil.Error, OSError):
        return False


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _file(home: Home) -> Path:
    return home.run / "session.json"
