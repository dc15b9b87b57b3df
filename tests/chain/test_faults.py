"""A search under faults: the DAG run ends in success by itself, nothing is lost or done twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tasks.stack.embedded import lifecycle, supervisor
from tasks.stack.embedded.home import Home
from tests.chain.conftest import Chain
from tests.chain.searches import assert_published_once, rows
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

NAME = "steady"
TRIALS = 24
AWAY_S = 60
GOES_ON_S = 180
"""A minute on a quiet machine; CI runs the containers' suite beside this one."""


def children() -> list[psutil.Process]:
    """The processes that fit trials, anywhere under this stack's scheduler."""
    program = supervisor.programs()["airflow-scheduler"]
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(program.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "tasks.search.child" in " ".join(process.cmdline()):
                    found.append(process)
    return found


def tries() -> list[dict[str, psutil.Process]]:
    """Each slot's try: the trial's child, its task, Airflow's worker that supervises the task."""
    found = []
    for child in children():
        with suppress(psutil.NoSuchProcess):
            task = child.parent()
            watcher = task and task.parent()
            if task and watcher:
                found.append({"child": child, "task": task, "watcher": watcher})
    return found


def alive(process: psutil.Process) -> bool:
    """Whether this very process runs; one that only waits to be reaped does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill(who: str) -> Callable[[dict[str, psutil.Process]], None]:
    return lambda tree: tree[who].send_signal(signal.SIGKILL)


def stop(who: str) -> Callable[[dict[str, psutil.Process]], None]:
    return lambda tree: tree[who].send_signal(signal.SIGSTOP)


def kill_program(name: str) -> Callable[[object], None]:
    return lambda _: os.kill(supervisor.programs()[name].pid, signal.SIGKILL)


def away(name: str) -> Callable[[object], None]:
    def fault(_: object) -> None:
        stack = supervisor.Supervisor(Home.of_settings())
        stack.stop([name])
        time.sleep(AWAY_S)  # the outage itself, not a wait for something
        stack.start_program(name)

    return fault


def kill_everything(_: object) -> None:
    """kill -9 of supervisord and of every process under it, then `up`."""
    top = psutil.Process(supervisor.Supervisor(Home.of_settings()).pid())
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    lifecycle.start()


FAULTS: dict[str, Callable] = {
    "kill the trial's child": kill("child"),
    "kill the task process": kill("task"),
    "kill Airflow's supervisor of the task": kill("watcher"),
    "kill the scheduler": kill_program("airflow-scheduler"),
    "kill MLflow": kill_program("mlflow"),
    "kill PostgreSQL": kill_program("postgres"),
    "stop the trial's child": stop("child"),
    "stop the task process": stop("task"),
    "api-server away": away("airflow-api-server"),
    "PostgreSQL away": away("postgres"),
    "kill the whole stack": kill_everything,
}


ALL = ("child", "task", "watcher")
GONE = {
    "kill the trial's child": ("child",),
    "stop the trial's child": ("child",),
    "kill the task process": ("child", "task"),
    "stop the task process": ("child", "task"),
    "kill Airflow's supervisor of the task": ALL,
    "kill the scheduler": ALL,
    "kill the whole stack": ALL,
}
"""Who of the struck try must be gone while the run still goes on."""


CASES = [
    (1, "kill the trial's child", "stop the trial's child", "kill the task process",
     "stop the task process"),
    (1, "kill Airflow's supervisor of the task", "kill the scheduler", "kill MLflow",
     "kill PostgreSQL"),
    (1, "api-server away"),
    (1, "PostgreSQL away"),
    (1, "kill the whole stack"),
    (2, "kill the trial's child", "stop the trial's child"),
    (2, "kill the task process"),
    (2, "stop the task process"),
    (2, "kill Airflow's supervisor of the task"),
    (2, "kill the scheduler"),
    (2, "kill the whole stack"),
]  # fmt: skip
"""So many slots, and the faults that strike one search in turn.

With two slots what strikes one of them, or all; a server that is gone is gone for one as for two.
The other slot goes on meanwhile, so that a search is over after a strike or two.
"""


@pytest.fixture(scope="module")
def undisturbed(chain: Chain) -> dict[int, tuple]:
    """The trials of an uninterrupted search with one slot."""
    run = chain.train(NAME, trials=TRIALS, slots=1, force=True)
    assert chain.finish(NAME, run) == "success"
    return rows(chain.parent(NAME, run))


@pytest.fixture
def nobody_left(chain: Chain) -> Iterator[None]:
    """After the run no process fits a trial any more."""
    yield
    until(lambda: not children(), 60, "the last trial's child is gone")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{', '.join(case[1:])}")
@pytest.mark.usefixtures("nobody_left")
def test_a_search_survives(
    chain: Chain, undisturbed: dict[int, tuple], case: tuple[int, *tuple[str, ...]]
) -> None:
    slots, *faults = case
    run = chain.train(NAME, trials=TRIALS, slots=slots, force=True)
    search = chain.parent(NAME, run)
    until(lambda: len(rows(search)) >= 4, 120, "some trials are recorded")
    before: dict[int, tuple] = {}
    old: list[psutil.Process] = []
    for fault in faults:
        recorded, struck = survived(search, fault)
        before = recorded | before  # as each was when it was first seen
        old += struck
    assert chain.finish(NAME, run) == "success"
    found = rows(search)
    assert sorted(found) == list(range(TRIALS))
    assert {tid: found[tid] for tid in before} == before, "a recorded trial ran again"
    assert_published_once(NAME, search, TRIALS)
    until(lambda: not any(map(alive, old)), 60, "no process of an old try lives on")
    if slots == 1:
        assert {t: row[0] for t, row in found.items()} == {
            t: row[0] for t, row in undisturbed.items()
        }


def survived(search: str, fault: str) -> tuple[dict[int, tuple], list[psutil.Process]]:
    """Strike the search and see it go on; returns the recorded trials and the tries of before."""
    struck = until(tries, GOES_ON_S, f"a trial is fitted before: {fault}")
    before = rows(search)
    assert len(before) < TRIALS, f"the search ended before: {fault}"

    FAULTS[fault](struck[0])

    until(lambda: len(rows(search)) > len(before), GOES_ON_S, f"it goes on after: {fault}")
    gone = [struck[0][who] for who in GONE.get(fault, ())]
    until(lambda: not any(map(alive, gone)), GOES_ON_S, f"what was struck is gone: {fault}")
    return before, [slot[who] for slot in struck for who in ("child", "task")]
