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
    """A Python program that reports on standard output, line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        **keywords,  # type: ignore[call-overload]
    )


def next_line(program: subprocess.Popen[str]) -> str:
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


def test_guardian_kills_a_stopped_process_and_exits() -> None:
    program = run(GUARDED)
    guardian = int(next_line(program))

    program.send_signal(signal.SIGSTOP)

    assert program.wait(10) == -signal.SIGKILL
    until(lambda: gone(guardian), 5, "the guardian has exited")


def test_guardian_spares_a_process_that_continues_in_time() -> None:
    program = run(GUARDED)
    guardian = int(next_line(program))
    program.send_signal(signal.SIGSTOP)
    until(lambda: process.state(program.pid) == "T", 5, "the program is stopped")
    program.send_signal(signal.SIGCONT)

    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(4)

    program.kill()
    program.wait()
    until(lambda: gone(guardian), 5, "the guardian has exited")


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
    next_line(program)

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
    """With the kernel's death signal the child dies first; the grandchild must end nevertheless."""
    parent = run(FAMILY, death_signal)
    family = [int(pid) for pid in next_line(parent).split()]

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
    child = int(next_line(parent))

    parent.kill()
    parent.wait()

    until(lambda: gone(child), 5, "the child is gone")


def test_orphan_exits_at_once() -> None:
    orphan = run("from tasks.base.process import die_with_parent; die_with_parent(1 << 22)")

    assert orphan.wait(20) == 1


def test_state_of_an_ended_process_is_empty() -> None:
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
