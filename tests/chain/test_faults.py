"""A search under faults: its DAG run succeeds unaided; no trial is lost or recorded twice."""

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
from tasks.stack.embedded import lifecycle, supervisor
from tasks.stack.embedded.home import Home
from tests.chain.conftest import Chain
from tests.chain.searches import assert_published_once, rows
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

NAME = "steady"
AWAY_S = 60
GOES_ON_S = 180
"""Usually less than a minute; longer when CI runs the Docker suite at the same time."""


def children() -> list[psutil.Process]:
    """The processes that fit trials, anywhere below this stack's scheduler."""
    program = supervisor.programs()["airflow-scheduler"]
    fitting = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(program.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "tasks.search.child" in " ".join(process.cmdline()):
                    fitting.append(process)
    return fitting


def tries() -> list[dict[str, psutil.Process]]:
    """The processes of each slot: the trial's child, its task, and the task's Airflow worker."""
    slots = []
    for child in children():
        with suppress(psutil.NoSuchProcess):
            task = child.parent()
            watcher = task and task.parent()
            if task and watcher:
                slots.append({"child": child, "task": task, "watcher": watcher})
    return slots


def alive(process: psutil.Process) -> bool:
    """Whether this process still runs; a zombie does not."""
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
        time.sleep(AWAY_S)  # the length of the outage, not a wait for a condition
        stack.start_program(name)

    return fault


def kill_everything(_: object) -> None:
    """Kill supervisord and every process below it with SIGKILL, then start the stack."""
    top = psutil.Process(supervisor.Supervisor(Home.of_settings()).pid())
    for process in [top, *top.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    lifecycle.start()


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
"""Which processes of the struck slot must end while the run continues."""


BY_TWO_SLOTS = (
    "kill the task process", "kill Airflow's supervisor of the task", "kill the scheduler",
    "kill the whole stack",
)  # fmt: skip
"""The first fault hits one slot while the other continues; the rest hit both."""
BY_ONE_SLOT = tuple(fault for fault in FAULTS if fault not in BY_TWO_SLOTS)
"""The search ends during the last one."""
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
"""The number of slots, and the faults that strike one search in turn.

The full matrix has a search for each fault. Two slots add nothing where a server fails.
"""


@pytest.fixture(scope="module")
def undisturbed(chain: Chain) -> dict[int, tuple]:
    """The trials of an undisturbed search with one slot, run without Airflow."""
    overrides = Overrides(trials=TRIALS[1], slots=1, force=True)
    (slot,) = prepare(NAME, f"train__{NAME}/undisturbed", overrides).slots
    search(slot)
    return rows(slot.run_id)


@pytest.fixture
def nobody_left(chain: Chain) -> Iterator[None]:
    """After the run, no process fits a trial."""
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
        before = recorded | before  # each as it was first seen
        struck += processes
    assert chain.finish(NAME, run) == "success"
    after = rows(search_id)
    assert sorted(after) == list(range(trials))
    assert {tid: after[tid] for tid in before} == before, "a recorded trial ran again"
    assert_published_once(NAME, search_id, trials)
    until(lambda: not any(map(alive, struck)), 60, "all struck processes have ended")
    if slots == 1:
        assert {tid: row[0] for tid, row in after.items()} == {
            tid: row[0] for tid, row in undisturbed.items()
        }


def survived(
    search_id: str, fault: str, trials: int
) -> tuple[dict[int, tuple], list[psutil.Process]]:
    """Strike the search and wait until it continues.

    Returns the trials recorded before the fault, and the processes that ran before it.
    """
    struck = until(tries, GOES_ON_S, f"a trial is fitted before {fault!r}")
    before = rows(search_id)
    assert len(before) < trials, f"the search ended before {fault!r}"

    FAULTS[fault](struck[0])

    until(
        lambda: len(rows(search_id)) > len(before),
        GOES_ON_S,
        f"it continues after {fault!r}",
    )
    gone = [struck[0][who] for who in GONE.get(fault, ())]
    until(lambda: not any(map(alive, gone)), GOES_ON_S, f"the struck processes end after {fault!r}")
    return before, [slot[who] for slot in struck for who in ("child", "task")]
