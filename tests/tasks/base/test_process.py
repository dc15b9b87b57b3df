from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tasks.base import process
from tasks.base.settings import REPOSITORY
from tests.waiting import until


def run(code: str, *args: object, **keywords: object) -> subprocess.Popen[str]:
    """A Python program that says its news on standard output, a line each."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        **keywords,  # type: ignore[call-overload]
    )


def said(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline().strip()


def gone(pid: int) -> bool:
    return process.state(pid) in {"", "Z"}


GUARDED = """
import time
import psutil
from tasks.base.process import guarded
with guarded(seconds=2):
    print(psutil.Process().children()[0].pid, flush=True)
    time.sleep(600)
"""


def test_guardian_kills_a_stopped_process_and_leaves() -> None:
    program = run(GUARDED)
    guardian = int(said(program))

    program.send_signal(signal.SIGSTOP)

    assert program.wait(10) == -signal.SIGKILL
    until(lambda: gone(guardian), 5, "the guardian left")


def test_guardian_leaves_alone_who_goes_on_in_time() -> None:
    program = run(GUARDED)
    guardian = int(said(program))
    program.send_signal(signal.SIGSTOP)
    until(lambda: process.state(program.pid) == "T", 5, "it is stopped")
    program.send_signal(signal.SIGCONT)

    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(4)

    program.kill()
    program.wait()
    until(lambda: gone(guardian), 5, "the guardian left")


def test_guardian_goes_with_the_block() -> None:
    with process.guarded():
        (guardian,) = (
            child
            for child in psutil.Process().children()
            if any(part.endswith("process.py") for part in child.cmdline())
        )
    assert not guardian.is_running()


def test_guardian_is_not_reached_by_a_signal_to_the_group() -> None:
    program = run(GUARDED, process_group=0)
    said(program)

    os.killpg(program.pid, signal.SIGSTOP)

    assert program.wait(10) == -signal.SIGKILL


FAMILY = """
import os, subprocess, sys
from tasks.base import process
pipe, ours = os.pipe()
child = subprocess.Popen(
    [sys.executable, "-c", '''
import multiprocessing, os, sys, time
from tasks.base import process
process.end_group_at_eof(int(sys.argv[1]))
if sys.argv[2] == "die":
    process.die_with_parent(os.getppid())
grandchild = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
if __name__ == "__main__":
    grandchild.start()
    print(os.getpid(), grandchild.pid, flush=True)
    while True:
        time.sleep(600)
''', str(pipe), sys.argv[1]],
    pass_fds=(pipe,), start_new_session=True,
)
os.close(pipe)
child.wait()
"""


@pytest.mark.parametrize("death_signal", ["die", "stay"])
def test_whole_group_ends_with_the_parent(death_signal: str) -> None:
    """With the kernel's death signal the child goes first, which must not save the grandchild."""
    parent = run(FAMILY, death_signal)
    family = [int(pid) for pid in said(parent).split()]

    parent.kill()
    parent.wait()

    until(lambda: all(gone(pid) for pid in family), 5, "child and grandchild are gone")


BUSY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import os, re
from tasks.base.process import die_with_parent
die_with_parent(os.getppid())
print(os.getpid(), flush=True)
re.match("(a+)+b", "a" * 60)
'''])
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_child_dies_with_its_parent_even_within_a_long_call() -> None:
    parent = run(BUSY)
    child = int(said(parent))

    parent.kill()
    parent.wait()

    until(lambda: gone(child), 5, "the child is gone")


def test_orphan_leaves_at_once() -> None:
    orphan = run("from tasks.base.process import die_with_parent; die_with_parent(1 << 22)")

    assert orphan.wait(20) == 1


def test_state_of_nobody_is_nothing() -> None:
    program = run("pass")
    program.wait()

    assert process.state(program.pid) == ""


def test_cores_are_those_that_the_process_may_use() -> None:
    if not hasattr(os, "sched_setaffinity"):
        assert process.cores() == os.cpu_count()
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert process.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
