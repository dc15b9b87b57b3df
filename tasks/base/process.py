"""Ending processes in time: with their parent, with their group, or after they are stopped.

Run as a program (`python -I -S process.py PID SECONDS`), this file is the guardian that `guarded`
starts. It therefore imports only the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_STOPPED = "T"


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends (Linux only).

    `parent` is the process id of the starter. If that has ended before this call, this process
    exits now.
    """
    if sys.platform == "linux":
        import ctypes  # not needed by the guardian

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def end_group_at_eof(pipe: int) -> None:
    """Kill this process group as soon as no process holds the write end of `pipe`.

    A separate process watches the pipe. A thread would need the interpreter lock, which a long call
    into C holds, and the kernel's death signal does not reach grandchildren (joblib's workers).
    """
    subprocess.Popen(
        ["/bin/sh", "-c", "read -r line; kill -KILL 0"],
        stdin=pipe,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(pipe)


def kill_group(leader: int) -> None:
    """Kill the remaining processes of the group that `leader` led."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(leader, signal.SIGKILL)


def offer_to_oom_killer() -> None:
    """Make this process the kernel's first choice when memory runs out (Linux only)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def guarded(seconds: int = 10) -> Iterator[None]:
    """Within the block, kill this process once it has been stopped (SIGSTOP) for `seconds`.

    Airflow does not notice a stopped task, because its supervisor sends the heartbeats. A killed
    task is retried. The guardian ends with this process.
    """
    guardian = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to this process's group must not reach the guardian
    )
    try:
        yield
    finally:
        guardian.kill()
        guardian.wait()


def state(pid: int) -> str:
    """The state's letter as `ps` shows it (`T` is stopped); empty if there is no such process."""
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return ""
        return status.partition("State:")[2].strip()[:1]
    shown = subprocess.run(
        ["/bin/ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip()[:1]


def _guard(pid: int, seconds: int) -> None:
    stopped = 0
    while os.getppid() == pid:
        time.sleep(1)
        stopped = stopped + 1 if state(pid) == _STOPPED else 0
        if stopped >= seconds and os.getppid() == pid:
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), int(sys.argv[2]))
