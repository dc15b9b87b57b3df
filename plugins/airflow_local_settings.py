"""Lets Airflow's processes die with the process that forked them, down to the task.

Otherwise the workers and tasks of a killed scheduler would keep running next to the tasks' next
tries. Tasks take care of the processes that they start themselves.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

__all__: list[str] = []  # Airflow copies every public name of this module into its settings.

_PR_SET_PDEATHSIG = 1
_LEVELS = 2  # scheduler → worker → task
_POLL_S = 1.0

_fork = SimpleNamespace(depth=0, parent=0)
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _before_fork() -> None:
    # The signal comes when the forking *thread* ends, and only the main one lasts as long as its
    # process.
    main = threading.current_thread() is threading.main_thread()
    _fork.parent = os.getpid() if main or _libc is None else 0


def _in_child() -> None:
    _fork.depth += 1
    if _fork.depth > _LEVELS or not _fork.parent:
        return
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != _fork.parent:  # it died between the fork and the call
            os._exit(1)
    else:
        _watch(_fork.parent)


def _watch(parent: int) -> None:
    def poll() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=poll, name="parent-watch", daemon=True).start()


os.register_at_fork(before=_before_fork, after_in_child=_in_child)
if _libc is None:
    # On macOS a task is a new interpreter, and there is no death signal for the servers.
    _watch(os.getppid())
