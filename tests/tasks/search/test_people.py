"""A search from its file to what people see on its runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tasks.base.refs import RunRef
from tasks.clients import tracking
from tasks.pipeline import space
from tasks.records.trials.progress import total
from tasks.search import search
from tasks.select import select
from tests.tasks.search import searches
from tests.tasks.search.searches import begin, children, pipeline, rows, slot_of, start

pytestmark = pytest.mark.usefixtures("stack")

LISTS: dict[str, Any] = {
    "choice": [
        {"estimator": "ridge", "alpha": {"choice": [0.1, 1.0]}},
        {
            "estimator": "decision_tree",
            "max_depth": {"choice": [2, None]},
            "min_samples_leaf": {"choice": [1, 20]},
        },
    ]
}


@pytest.mark.parametrize("algorithm", ["grid", "random", "tpe"])
def test_the_same_file_with_another_algorithm(algorithm: str) -> None:
    definition = pipeline(space=LISTS, algorithm=algorithm, trials=8)
    grid = space.grid(space.parse(LISTS))
    product = [space.flatten(space.evaluate(grid.node, grid.at(at))) for at in range(grid.size)]
    run = begin(definition)

    search(slot_of(run))

    recorded = rows(run.run_id, "tid, outcome, params")
    assert [row[:2] for row in recorded] == [(tid, "finished") for tid in range(total(definition))]
    tried = [row[2] for row in recorded]
    if algorithm == "grid":
        assert tried == product
        assert len(product) == 6
    else:
        assert all(params in product for params in tried)
        assert len(tried) == 8


def test_a_fit_that_does_not_converge_has_a_warning_on_its_run() -> None:
    lasso = {"estimator": "elastic_net", "alpha": 1e-4, "max_iter": 1}
    run = begin(
        pipeline(trials=2, points=[lasso], space={"choice": [lasso, {"estimator": "linear"}]})
    )

    search(slot_of(run))

    first, *_ = children(run)
    assert first.data.tags["warnings"].startswith("ConvergenceWarning: Objective did not converge")


CHATTY = '''\
"""A family with nested parameters that says a lot while it is fitted."""

import logging
import sys
import warnings

from sklearn.dummy import DummyRegressor
from tqdm import tqdm

from tasks.models.family import Family


class Chatty(DummyRegressor):
    def __init__(self, optimizer=None):
        super().__init__()
        self.optimizer = optimizer

    def fit(self, X, y):
        for _ in tqdm(range(3), desc="progress bar"):
            print("noise on standard output")
        warnings.warn("this API goes away", FutureWarning)
        warnings.warn("the gradients explode", RuntimeWarning)
        logging.getLogger("alibrary.core").warning("fell back to %s", "one thread")
        return super().fit(X, y)


FAMILY = Family(regression=Chatty)
'''
NESTEROV = {"kind": "nesterov", "beta": {"uniform": [0, 1]}}
NESTED: dict[str, Any] = {
    "choice": [
        {
            "estimator": "chatty",
            "optimizer": {
                "choice": [
                    {"name": "sgd", "momentum": {"choice": [{"kind": "none"}, NESTEROV]}},
                    {"name": "adam", "rate": {"loguniform": ["log(0.001)", "log(1)"]}},
                ]
            },
        },
        {"estimator": "linear"},
    ]
}
FLAT = {"optimizer.name", "optimizer.momentum.kind", "optimizer.momentum.beta", "optimizer.rate"}


@pytest.fixture(scope="module")
def chatty(stack: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRef, str]:
    """A finished search over the nested space, and what its slot logged."""
    folder = tmp_path_factory.mktemp("chatty")
    optimizers: list[dict[str, Any]] = [
        {"name": "sgd", "momentum": {"kind": "nesterov", "beta": 0.5}},
        {"name": "sgd", "momentum": {"kind": "none"}},
        {"name": "adam", "rate": 0.01},
    ]
    points = [{"estimator": "chatty", "optimizer": optimizer} for optimizer in optimizers]
    run = begin(pipeline(trials=8, space=NESTED, points=points))
    code = searches.copy_with_family(folder, "chatty", CHATTY)
    log = folder / "log"
    assert start(run, log, code=code).wait(120) == 0, log.read_text()
    return run, log.read_text()


def test_nested_parameters_have_flat_names(chatty: tuple[RunRef, str], tmp_path: Path) -> None:
    run, _ = chatty
    best = select(run)

    path = tracking.client().download_artifacts(run.run_id, "leaderboard.csv", str(tmp_path))
    with Path(path).open() as file:
        board = list(csv.DictReader(file))
    assert len(board) == 8
    assert set(board[0]) > FLAT
    assert int(board[0]["trial"]) == best.trial
    nested = next(line for line in board if line["trial"] == "0")
    assert (nested["optimizer.momentum.kind"], nested["optimizer.momentum.beta"]) == (
        "nesterov", "0.5"
    )  # fmt: skip
    assert nested["optimizer.rate"] == ""
    assert children(run)[0].data.params == {
        "estimator": "chatty",
        "optimizer.name": "sgd",
        "optimizer.momentum.kind": "nesterov",
        "optimizer.momentum.beta": "0.5",
    }


def test_warnings_reach_the_trials_run_and_noise_does_not_reach_the_log(
    chatty: tuple[RunRef, str],
) -> None:
    run, log = chatty

    tags = children(run)[0].data.tags
    assert tags["warnings"] == (
        "RuntimeWarning: the gradients explode\nalibrary.core: fell back to one thread"
    )
    for noise in ("progress bar", "%|", "noise on standard", "goes away", "View run", "\r"):
        assert noise not in log
    assert "trial 0 of 8: val_rmse" in log
    *lines, summary = log.splitlines()
    assert {line.split(" ")[2] for line in lines} == {"tasks.search", "tasks.search.slot"}
    assert summary.startswith("{'slot': 0, 'recorded': 8")


def test_the_report_is_on_the_parent_run(chatty: tuple[RunRef, str]) -> None:
    run, _ = chatty
    select(run)

    paths = {entry.path for entry in tracking.client().list_artifacts(run.run_id)}
    assert paths >= {
        "report.html", "leaderboard.csv", "families.png", "score_over_trials.png",
        "parallel_coordinates.png",
    }  # fmt: skip
