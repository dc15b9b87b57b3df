"""A search whose slots, trial processes, sessions and servers are killed under it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from tasks.base import process
from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.clients import database
from tasks.records.trials.publish import publish_rest
from tasks.search import search
from tasks.stack.embedded.supervisor import Supervisor
from tests.tasks.search.searches import ENDLESS, begin, children, pipeline, rows, slot_of, start
from tests.waiting import until

pytestmark = pytest.mark.faults

MEDIUM = {
    "choice": [
        {
            "estimator": "random_forest",
            "n_estimators": {"uniformint": [200, 800]},
            "max_features": {"uniform": [0.1, 1]},
        },
        {
            "estimator": "gradient_boosting",
            "n_estimators": {"uniformint": [200, 800]},
            "learning_rate": {"loguniform": [-5, 0]},
        },
        {"estimator": "ridge", "alpha": {"loguniform": [-7, 5]}},
    ]
}
POINTS = (ENDLESS, {"estimator": "ridge", "alpha": 1.0})
SPACE = {"choice": list(POINTS)}


class Slots:
    """Slots as processes, started again when they die, as Airflow does."""

    def __init__(self, run: RunRef, count: int, folder: Path, guard_s: int) -> None:
        self.run, self._folder, self._guard_s = run, folder, guard_s
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """Start one more."""
        self._start(len(self.running))

    def _start(self, number: int) -> None:
        self.running[number] = start(self.run, self._log(number), number, guard_s=self._guard_s)

    def _log(self, number: int) -> Path:
        return self._folder / f"slot{number}.log"

    def log(self, number: int = 0) -> str:
        return self._log(number).read_text()

    def revive(self) -> bool:
        """Start the dead ones again; whether any still has work."""
        for number, slot in list(self.running.items()):
            code = slot.poll()
            if code == 0:
                del self.running[number]
            elif code is not None:
                self._start(number)
        return bool(self.running)

    def child(self, number: int = 0, of: str = "tasks.search.child") -> psutil.Process | None:
        """A process that a slot started: that for its trials, or its guardian."""
        with suppress(psutil.Error, KeyError):
            for child in psutil.Process(self.running[number].pid).children():
                if of in " ".join(child.cmdline()):
                    return child
        return None

    def end(self) -> None:
        for slot in self.running.values():
            slot.kill()
            slot.wait()


@pytest.fixture
def slots(stack: Supervisor, tmp_path: Path) -> Iterator[Any]:
    made: list[Slots] = []

    def make(of: Any, count: int = 1, guard_s: int = 10) -> Slots:
        made.append(Slots(begin(of), count, tmp_path, guard_s))
        return made[-1]

    yield make
    for each in made:
        each.end()


def fitting(slots: Slots, number: int = 0, attempts: int = 1, tid: int = 0) -> psutil.Process:
    """Wait until a trial is fitted for the so-manieth time; returns the process."""

    def begun() -> bool:
        begun_so_far = dict(rows(slots.run.run_id, "tid, attempts"))
        return begun_so_far.get(tid, 0) >= attempts

    until(begun, 60, f"attempt {attempts} of trial {tid} began")
    child = slots.child(number)
    assert child is not None
    return child


def wait_for_end(slots: Slots, seconds: float = 100) -> None:
    until(lambda: not slots.revive(), seconds, "all slots left")
    publish_rest(slots.run)


def assert_complete(run: RunRef, trials: int) -> None:
    recorded = rows(run.run_id, "tid, outcome, published, run_id")
    assert [row[0] for row in recorded] == list(range(trials))
    assert all(outcome and published for _, outcome, published, _ in recorded)
    child_runs = children(run)
    assert [child.info.run_id for child in child_runs] == [row[3] for row in recorded]
    assert "RUNNING" not in {child.info.status for child in child_runs}


def gone(processes: list[psutil.Process]) -> bool:
    return all(process.state(each.pid) in {"", "Z"} for each in processes)


def terminate_sessions(pattern: str) -> int:
    """End the PostgreSQL sessions of this application name."""
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name like %s and usename = current_user",
            (pattern,),
        )
        return int(cursor.fetchall()[0][0])


def crash_postgres(stack: Supervisor) -> None:
    """As after a loss of power; supervisord starts it again."""
    pid = stack.programs()["postgres"].pid
    assert pid
    psutil.Process(pid).send_signal(signal.SIGQUIT)


def test_interrupted_slot_gives_the_points_of_an_uninterrupted_one(slots: Any) -> None:
    definition = pipeline(trials=24, space=MEDIUM)
    whole = begin(definition)
    search(slot_of(whole))

    cut = slots(definition)
    for tid, fault in ((1, "slot"), (7, "child"), (10, "session"), (14, "slot")):
        child = fitting(cut, tid=tid)
        if fault == "slot":
            cut.running[0].kill()
            cut.running[0].wait()
            cut.revive()
        elif fault == "child":
            child.kill()
        else:
            assert terminate_sessions(f"slot {cut.run.run_id}") == 1
    wait_for_end(cut)

    assert_complete(cut.run, 24)
    assert rows(cut.run.run_id) == rows(whole.run_id)
    fits = sum(attempts for (attempts,) in rows(cut.run.run_id, "attempts"))
    assert 24 <= fits <= 28


@pytest.mark.parametrize("stopped", [False, True])
def test_all_processes_of_a_slot_go_with_it(slots: Any, stopped: bool) -> None:
    """A slot that is stopped is killed by its guardian; by then another may have its trial."""
    slot = slots(pipeline(trials=1, points=[ENDLESS], space=ENDLESS))
    fitting(slot)
    family = psutil.Process(slot.running[0].pid).children(recursive=True)
    assert len(family) == 3  # the guardian; the trials' process and what ends its group

    slot.running[0].send_signal(signal.SIGSTOP if stopped else signal.SIGKILL)

    until(lambda: gone(family), 20, "all of them are gone")
    assert slot.running[0].wait(1) == -signal.SIGKILL


def test_another_slot_takes_the_trial_of_a_stopped_one(slots: Any) -> None:
    """Before the guardian kills it: the lease ends when its holder falls silent."""
    two = slots(pipeline(trials=2, points=POINTS, space=SPACE), guard_s=60)
    fitting(two, tid=0)
    two.add()
    until(lambda: (1, "finished") in rows(two.run.run_id, "tid, outcome"), 60, "slot 1 is idle")

    two.running[0].send_signal(signal.SIGSTOP)

    until(lambda: rows(two.run.run_id, "attempts")[0] == (2,), 25, "slot 1 began trial 0 again")
    assert two.running[0].poll() is None


def test_trial_that_killed_its_process_three_times_has_failed(slots: Any) -> None:
    slot = slots(pipeline(trials=2, points=POINTS, space=SPACE))

    for attempt in (1, 2, 3):
        fitting(slot, attempts=attempt).kill()
    wait_for_end(slot)

    assert_complete(slot.run, 2)
    (lost, finished) = rows(slot.run.run_id, "outcome, deaths, error")
    assert lost[:2] == ("failed", 3)
    assert lost[2].startswith("Its process died 3 times.\nIt ended with signal 9.")
    assert finished[:2] == ("finished", 0)


def test_stopped_trial_process_is_replaced(slots: Any) -> None:
    definition = pipeline(trials=2, points=[ENDLESS], trial_timeout=20, space={"choice": [ENDLESS]})
    slot = slots(definition)
    child = fitting(slot)

    child.suspend()

    fitting(slot, attempts=2)
    assert gone([child])
    assert "stopped for more than 5 s" in slot.log()


def test_postgres_away_in_the_middle(slots: Any, stack: Supervisor) -> None:
    slot = slots(pipeline(trials=10, space=MEDIUM))
    fitting(slot, tid=3)
    stack.stop(["postgres"])
    until(lambda: "PostgreSQL does not answer" in slot.log(), 20, "the slot noticed")
    stack.start_program("postgres")

    wait_for_end(slot)

    assert_complete(slot.run, 10)
    assert slot.log().count("Traceback") == 0


class Chaos:
    """Kills something of a search now and then, while trials are being fitted."""

    WEIGHTS: ClassVar = {"slot": 5, "child": 3, "stop": 3, "session": 3, "crash": 1}

    MOST = 20

    def __init__(self, slots: Slots, stack: Supervisor, seed: int) -> None:
        self._slots, self._stack, self._dice = slots, stack, random.Random(seed)
        self._stopped: dict[int, float] = {}
        self.done = dict.fromkeys(self.WEIGHTS, 0)

    def step(self) -> None:
        self._go_on()
        if sum(self.done.values()) == self.MOST:
            return
        with suppress(UnavailableError):
            fitted = [row for row in rows(self._slots.run.run_id, "outcome, attempts") if row[1]]
            if None in {outcome for outcome, _ in fitted} and self._dice.random() < 0.5:
                self._inflict(self._dice.choices(*zip(*self.WEIGHTS.items(), strict=True))[0])

    def _go_on(self) -> None:
        for pid, end in list(self._stopped.items()):
            if time.monotonic() > end:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                del self._stopped[pid]

    def _inflict(self, fault: str) -> None:
        number = self._dice.choice(list(self._slots.running))
        slot, child = self._slots.running[number], self._slots.child(number)
        self.done[fault] += 1
        if fault == "slot":
            slot.kill()
        elif fault == "child" and child is not None:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        elif fault == "stop" and self._slots.child(number, "tasks/base/process.py"):
            slot.send_signal(signal.SIGSTOP)
            self._stopped[slot.pid] = time.monotonic() + self._dice.uniform(2, 9)
        elif fault == "session":
            terminate_sessions(self._dice.choice(["slot %", "publisher"]))
        elif fault == "crash":
            crash_postgres(self._stack)


def test_chaos(slots: Any, stack: Supervisor, capsys: pytest.CaptureFixture[str]) -> None:
    """Every trial is recorded once whatever is killed; a trigger refuses a second record."""
    trials = 30
    many = slots(pipeline(trials=trials, space=MEDIUM), count=3)
    chaos = Chaos(many, stack, seed=5)
    deadline = time.monotonic() + 400
    while many.revive():
        assert time.monotonic() < deadline, chaos.done
        time.sleep(0.4)  # the pace of the faults, not a wait for anything
        chaos.step()
    publish_rest(many.run)

    assert_complete(many.run, trials)
    logs = "".join(many.log(number) for number in range(3))
    assert "already recorded" not in logs
    fits = sum(attempts for (attempts,) in rows(many.run.run_id, "attempts"))
    with capsys.disabled():
        print(f"\n{chaos.done}, {fits} fits for {trials} trials")
