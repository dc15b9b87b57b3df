"""A search under faults: the DAG run ends in success by itself, nothing is lost or done twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tasks import database
from tasks.stack import stack, supervisor
from tests.chain.conftest import Chain
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

NAME = "steady"
TRIALS = 24
AWAY_S = 60
GOES_ON_S = 60


def rows(search: str) -> dict[int, tuple]:
    """The recorded trials of a search: number -> what was recorded."""
    connection = database.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select tid, vals, outcome, loss, attempts, began_at, ended_at from trial"
                " where search = %s and outcome is not null",
                (search,),
            )
            return {row[0]: row[1:] for row in cursor.fetchall()}
    finally:
        connection.close()


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


def slot_tree(child: psutil.Process) -> dict[str, psutil.Process]:
    """Who is above a trial's child: the task process, Airflow's supervisor of it, the scheduler."""
    task = child.parent()
    watcher = task.parent()
    return {"child": child, "task": task, "watcher": watcher}


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


# An outage of a minute is tried once.
CASES = [(1, fault) for fault in FAULTS] + [(2, fault) for fault in FAULTS if "away" not in fault]


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
    until(lambda: not children(), 15, "the last trial's child is gone")


@pytest.mark.parametrize(("slots", "fault"), CASES)
@pytest.mark.usefixtures("nobody_left")
def test_a_search_survives(
    chain: Chain, undisturbed: dict[int, tuple], fault: str, slots: int
) -> None:
    run = chain.train(NAME, trials=TRIALS, slots=slots, force=True)
    search = chain.parent(NAME, run)
    until(lambda: len(rows(search)) >= 4, 120, "some trials are recorded")
    before = rows(search)
    victims = children()
    tree = slot_tree(victims[0])

    FAULTS[fault](tree)

    until(lambda: len(rows(search)) > len(before), GOES_ON_S, "the search goes on")
    assert chain.finish(NAME, run) == "success"
    after = rows(search)
    assert sorted(after) == list(range(TRIALS))
    assert {tid: after[tid] for tid in before} == before, "a recorded trial ran again"
    assert_published_once(chain, search)
    if fault.startswith(("kill", "stop")) and fault != "kill MLflow":
        assert not tree["child"].is_running() or tree["child"].status() == psutil.STATUS_ZOMBIE
    if slots == 1:
        assert {t: row[0] for t, row in after.items()} == {
            t: row[0] for t, row in undisturbed.items()
        }


def assert_published_once(chain: Chain, search: str) -> None:
    """Each trial is one ended child run, and nothing else is a child."""
    from tasks import tracking

    found = tracking.client().search_runs(
        [tracking.experiment(NAME)], f"tags.`{tracking.PARENT}` = '{search}'", max_results=1000
    )
    assert sorted(int(r.data.tags[tracking.TRIAL]) for r in found) == list(range(TRIALS))
    assert {r.info.status for r in found} <= {"FINISHED", "FAILED", "KILLED"}
    assert tracking.client().get_run(search).info.status == "FINISHED"
