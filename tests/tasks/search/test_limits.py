"""Trials that need more memory than they may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest

from tasks.base import memory
from tasks.base.errors import UserError
from tasks.base.refs import RunRef
from tasks.search.trial_process import MemoryUpError, Setup, WorkerDiedError
from tasks.search.worker import Worker
from tests.tasks.search import searches
from tests.tasks.search.searches import begin, children, pipeline, rows, start

pytestmark = pytest.mark.usefixtures("stack")

HUNGRY = '''\
"""A fit that takes a gigabyte and a half, in steps or at once; or more than any machine has."""

import numpy as np
from sklearn.dummy import DummyRegressor

from tasks.models.family import Family


class Hungry(DummyRegressor):
    def __init__(self, steps=1, size=1500):
        super().__init__()
        self.steps = steps
        self.size = size

    def fit(self, X, y):
        kept = [np.ones(self.size * 2**17 // self.steps) for _ in range(self.steps)]
        for _ in range(100):
            [array.sum() for array in kept]
        return super().fit(X, y)


FAMILY = Family(regression=Hungry)
'''
RIDGE = {"estimator": "ridge", "alpha": 1.0}


def hungry(steps: int, size: int = 1500) -> dict[str, object]:
    return {"estimator": "hungry", "steps": steps, "size": size}


def test_trials_over_their_memory_end_alone(tmp_path: Path) -> None:
    points = [hungry(100), RIDGE, hungry(1), hungry(1, 10**8), RIDGE | {"alpha": 2.0}]
    definition = pipeline(
        trials=5, trial_memory="600m", points=points, space={"choice": points}, algorithm="random"
    )
    run = begin(definition)
    code = searches.copy_with_family(tmp_path, "hungry", HUNGRY)
    log = tmp_path / "log"

    assert start(run, log, code=code).wait(120) == 0, log.read_text()

    recorded = rows(run.run_id, "outcome, attempts, deaths, error")
    assert [row[:3] for row in recorded] == [
        ("killed", 1, 0), ("finished", 1, 0), ("killed", 1, 0), ("killed", 1, 0), ("finished", 1, 0)
    ]  # fmt: skip
    assert [recorded[tid][3] for tid in (0, 2)] == ["It was over its memory limit of 600 MB."] * 2
    assert recorded[3][3].startswith("It asked for more memory than there is.\nMemoryError: ")
    assert "trial 0 killed: It was over its memory limit of 600 MB.: " in log.read_text()
    assert [child.info.status for child in children(run)] == [
        "KILLED", "FINISHED", "KILLED", "KILLED", "FINISHED"
    ]  # fmt: skip


@pytest.fixture
def run() -> RunRef:
    return begin(pipeline())


@pytest.fixture
def worker(run: RunRef) -> Iterator[Worker]:
    worker = Worker(
        Setup(pipeline().model_dump(mode="json"), run.snapshot_uri, 1), 2 * memory.GIGABYTE
    )
    yield worker
    worker.stop()


def test_libraries_that_do_not_fit_are_an_error_at_once(run: RunRef) -> None:
    worker = Worker(Setup(pipeline().model_dump(mode="json"), run.snapshot_uri, 1), 50 * 2**20)
    with pytest.raises(
        UserError, match=r"libraries and data alone need more .* use, 50 MB"
    ) as raised:
        worker.ready(Event())
    assert "search.trial_memory" in raised.value.fix


def test_a_kill_by_the_kernel_when_memory_runs_out_is_no_crash(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the kernel's count of such kills is made up: the machine has enough memory."""
    counts = iter([7, 7, 8])
    monkeypatch.setattr(memory, "kernel_kills", lambda: next(counts))
    killed_while_fitting(worker, MemoryUpError, "memory ran out, and the kernel ended it")


def test_a_kill_by_anybody_else_is_a_crash(worker: Worker) -> None:
    killed_while_fitting(worker, WorkerDiedError, "ended with signal 9")


def killed_while_fitting(worker: Worker, error: type[Exception], words: str) -> None:
    worker.ready(Event())
    worker.send({"params": searches.ENDLESS, "seed": 0})
    os.kill(trial_process(), signal.SIGKILL)
    with pytest.raises(error, match=words):
        worker.result(60, Event())


def test_a_process_that_kept_the_memory_of_a_trial_is_replaced(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ready() -> int:
        worker.ready(Event())
        return trial_process()

    first = ready()
    assert ready() == first
    at_first = memory.held([first])
    monkeypatch.setattr(memory, "held", lambda _: at_first + memory.GIGABYTE)
    assert ready() != first


def trial_process() -> int:
    """Id of the process that runs the trials."""
    children = psutil.Process().children()
    (pid,) = [child.pid for child in children if "tasks.search.child" in child.cmdline()]
    return pid
