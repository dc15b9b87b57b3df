"""Becomes a program of the stack: `python -I -S child.py SPECIFICATION.json [PID_FILE_OF_PARENT]`.

supervisord starts this file instead of the program itself. Here the environment needs no quoting,
and on Linux the program dies with supervisord instead of running on unsupervised.

It reads no settings. It passes the environment on, without the variables that would direct the
programs to other servers.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import signal
import sys
from pathlib import Path

# A user's own AWS keys or Airflow settings must not reach the stack's servers.
FOREIGN = (
    "AIRFLOW",
    "_AIRFLOW",
    "AWS_",
    "MLFLOW_",
    "PG",
    "PYTHON",
    "RCLONE_",
    "SUPERVISOR",
    "VIRTUAL_ENV",
)
CONNECTION = "AIRFLOW_CONN_"
"""Logins of data sources, for the tasks."""
PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Let the kernel kill this process when the parent ends; exit if it has already ended."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")


def become(user: str) -> None:
    """Change from root to `user`."""
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main() -> None:
    """Read the specification and become the program."""
    program = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    parent = int(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else os.getppid()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(CONNECTION) or not name.startswith(FOREIGN)
    }
    os.chdir(program["cwd"])
    if program["user"]:
        become(program["user"])  # before `die_with`: a change of user clears the death signal
    die_with(parent)
    command = program["command"]
    os.execve(command[0], command, {**inherited, **program["env"]})  # noqa: S606


main()
