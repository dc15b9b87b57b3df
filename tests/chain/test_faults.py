"""A search under faults: the DAG run ends in success by itself, nothing is lost or done twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tasks.pipeline.overrides import Overrides
from tasks.prepare import prepare
from tasks.search import search
from tasks.stack import stack, supervisor
from tests.chain.conftest import Chain
from tests.chain.searches import assert_published_once, rows
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

NAME = "steady"
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
        supervisor.stop_program(name)
        time.sleep(AWAY_S)  # the outage itself, not a wait for something
        supervisor.start_program(name)

    return fault


def kill_everything(_: object) -> None:
    """kill -9 of supervisord and of every process under it, then `up`."""
    top = psutil.Process(supervisor.pid())
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    stack.start()


FAULTS: dict[str, Callable] = {
    "kill the trial's child": kill("child"),
    "stop the trial's child": stop("child"),
    "kill the task process": kill("task"),
    "stop the task process": stop("task"),
    "kill Airflow's supervisor of the task": kill("watcher"),
    "kill the scheduler": kill_program("airflow-scheduler"),
    "kill the whole stack": kill_everything,
    "kill MLflow": kill_program("mlflow"),
    "kill PostgreSQL": kill_program("postgres"),
    "PostgreSQL away": away("postgres"),
    "api-server away": away("airflow-api-server"),
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


BY_TWO_SLOTS = (
    "kill the task process", "kill Airflow's supervisor of the task", "kill the scheduler",
    "kill the whole stack",
)  # fmt: skip
"""One slot is struck while the other goes on, then both at once."""
BY_ONE_SLOT = tuple(fault for fault in FAULTS if fault not in BY_TWO_SLOTS)
"""While the last of them lasts, the search comes to its end."""
TRIALS = {1: 36, 2: 32}


CASES = [
    pytest.param(1, BY_ONE_SLOT, id="one slot"),
    pytest.param(2, BY_TWO_SLOTS, id="two slots"),
    *(
        pytest.param(slots, (fault,), id=f"{slots}-{fault}", marks=pytest.mark.full)
        for slots, faults in ((1, FAULTS), (2, GONE))
        for fault in faults
    ),
]
"""So many slots, and the faults that strike one search in turn; in the whole matrix one each.

A server that is gone is gone for two slots as for one.
"""


@pytest.fixture(scope="module")
def undisturbed(chain: Chain) -> dict[int, tuple]:
    """The trials of an uninterrupted search with one slot, without Airflow."""
    overrides = Overrides(trials=TRIALS[1], slots=1, force=True)
    (slot,) = prepare(NAME, f"train__{NAME}/undisturbed", overrides).slots
    search(slot)
    return rows(slot.run_id)


@pytest.fixture
def nobody_left(chain: Chain) -> Iterator[None]:
    """After the run no process fits a trial any more."""
    yield
    until(lambda: not children(), 60, "the last trial's child is gone")


@pytest.mark.parametrize(("slots", "faults"), CASES)
@pytest.mark.usefixtures("nobody_left")
def test_a_search_survives(
    chain: Chain, undisturbed: dict[int, tuple], slots: int, faults: tuple[str, ...]
) -> None:
    trials = TRIALS[slots]
    run = chain.train(NAME, trials=trials, slots=slots, force=True)
    search_id = chain.parent(NAME, run)
    until(lambda: len(rows(search_id)) >= 4, 120, "some trials are recorded")
    before: dict[int, tuple] = {}
    struck: list[psutil.Process] = []
    for fault in faults:
        recorded, processes = survived(search_id, fault, trials)
        before = recorded | before  # as each was when it was first seen
        struck += processes
    assert chain.finish(NAME, run) == "success"
    after = rows(search_id)
    assert sorted(after) == list(range(trials))
    assert {tid: after[tid] for tid in before} == before, "a recorded trial ran again"
    assert_published_once(NAME, search_id, trials)
    until(lambda: not any(map(alive, struck)), 60, "no process of an old try lives on")
    if slots == 1:
        assert {tid: row[0] for tid, row in after.items()} == {
            tid: row[0] for tid, row in undisturbed.items()
        }


def survived(
    search_id: str, fault: str, trials: int
) -> tuple[dict[int, tuple], list[psutil.Process]]:
    """Strike the search and see it go on; returns the recorded trials and the tries of before."""
    struck = until(tries, GOES_ON_S, f"a trial is fitted before: {fault}")
    before = rows(search_id)
    assert len(before) < trials, f"the search ended before: {fault}"

    FAULTS[fault](struck[0])

    until(lambda: len(rows(search_id)) > len(before), GOES_ON_S, f"it goes on after: {fault}")
    gone = [struck[0][who] for who in GONE.get(fault, ())]
    until(lambda: not any(map(alive, gone)), GOES_ON_S, f"what was struck is gone: {fault}")
    return before, [slot[who] for slot in struck for who in ("child", "task")]
