"""The scheduler's executor exits if it cannot continue."""

from __future__ import annotations

import os
import subprocess
import sys

from tasks.base.settings import REPOSITORY

PROGRAM = """
import multiprocessing, os, signal, sys
from strict_executor import StrictLocalExecutor

executor = StrictLocalExecutor(parallelism=1)
worker = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
worker.start()
executor.workers = {worker.pid: worker}
if "dead" in sys.argv:
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    executor._check_workers()
else:
    executor.end()
print("still here")
"""


def stderr_of_exit(how: str) -> str:
    """The standard error of a process that has exited with 1."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "plugins")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "still here" not in done.stdout
    return done.stderr


def test_a_dead_worker_ends_the_scheduler() -> None:
    assert "died; exiting at once" in stderr_of_exit("dead")


def test_the_end_waits_for_no_running_task() -> None:
    assert "the scheduler ends; exiting at once" in stderr_of_exit("end")
