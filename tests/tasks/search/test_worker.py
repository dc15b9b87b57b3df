"""The process in which trials run, with a family whose library loads slowly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tasks.base import memory
from tasks.search.trial_process import Setup
from tasks.search.worker import Worker
from tests.tasks.search.searches import pipeline, snapshot

NETWORK = {"estimator": "keras_mlp", "units_1": 8, "units_2": 8, "epochs": 4, "patience": 2}
SPACE = {"choice": [{"estimator": "ridge", "alpha": {"uniform": [0, 1]}}, NETWORK]}


@pytest.fixture
def worker(store: object) -> Iterator[Worker]:
    worker = Worker(
        Setup(pipeline(space=SPACE).model_dump(mode="json"), snapshot(), threads=1),
        4 * memory.GIGABYTE,
    )
    yield worker
    worker.stop()


def run(worker: Worker, params: dict[str, Any]) -> dict[str, Any]:
    lost = Event()
    worker.ready(lost)
    worker.send({"params": params, "seed": 7})
    return worker.result(120, lost)


def process(worker: Worker) -> Path:
    assert worker._process is not None
    return Path("/proc", str(worker._process._process.pid))


def test_tensorflow_is_loaded_only_when_needed_and_keeps_to_the_threads(worker: Worker) -> None:
    assert run(worker, {"estimator": "ridge", "alpha": 1.0})["outcome"] == "finished"
    assert "tensorflow" not in (process(worker) / "maps").read_text()

    result = run(worker, NETWORK)

    assert "tensorflow" in (process(worker) / "maps").read_text()
    assert (result["outcome"], result["error"], result["warnings"]) == ("finished", None, None)
    variables = (process(worker) / "environ").read_text().split("\0")
    assert {"TF_NUM_INTRAOP_THREADS=1", "TF_NUM_INTEROP_THREADS=1"} <= set(variables)
    curve = result["curves"]["val_loss"]
    assert len(curve) == len(result["curves"]["training_loss"]) <= 4
    assert result["metrics"]["best_epoch"] == curve.index(min(curve)) + 1
    assert result["figure"] ** 2 == pytest.approx(min(curve), rel=1e-4)

    worker.stop()
    again = run(worker, NETWORK)  # in a new process

    assert again["figure"] == pytest.approx(result["figure"], rel=1e-6)
