from __future__ import annotations

import json
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from tasks.base.errors import UserError
from tasks.base.settings import Settings
from tasks.clients import database, tracking
from tasks.pipeline.schema import Column, Data, Metric, Pipeline, Search, Source
from tasks.records import resolved
from tasks.records.trials import leaderboard


@pytest.fixture
def name(servers: Settings) -> str:
    return f"board_{uuid4().hex[:8]}"


def parent(name: str, direction: Any = "minimize") -> str:
    """Start a run of a pipeline; returns its id."""
    pipeline = Pipeline(
        name=name,
        description="d",
        owner="o",
        data=Data(
            sources=(Source(uri="file:///none.csv"),),
            target="y",
            task="regression",
            columns={"x": Column(), "y": Column()},
        ),
        search=Search(space={}),
        metric=Metric(name="r2" if direction == "maximize" else "rmse", direction=direction),
    )
    tags = {
        tracking.NAME: name,
        tracking.SNAPSHOT: "s3://none/manifest.json",
        tracking.PIPELINE: resolved.write(pipeline),
        tracking.DAG_RUN: f"train__{name}/{uuid4().hex}",
    }
    run = tracking.client().create_run(tracking.experiment(name), tags=tags)
    return str(run.info.run_id)


def trial(search: str, tid: int, figure: float | None, seconds: float = 1.0, sign: int = 1) -> None:
    """Write a trial to the table; without a figure it failed."""
    metric = "rmse" if sign > 0 else "r2"
    metrics = {"duration_s": seconds, f"training_{metric}": 0.5}
    finished = figure is not None
    with closing(database.connect()) as connection:
        connection.cursor().execute(
            "insert into trial (search, tid, vals, params, outcome, loss, figure, metrics)"
            " values (%s, %s, '{}', %s, %s, %s, %s, %s)",
            (
                search,
                tid,
                json.dumps({"estimator": "ridge", "alpha": tid}),
                "finished" if finished else "failed",
                sign * figure if finished else None,
                figure,
                json.dumps(metrics),
            ),
        )


def test_the_best_is_first_and_ties_go_to_the_shorter_then_the_earlier(name: str) -> None:
    search = parent(name)
    for tid, figure, seconds in ((0, 3, 1), (1, 2, 9), (2, 2, 5), (3, 1, 1), (4, 2, 5)):
        trial(search, tid, figure, seconds)
    trial(search, 5, None)
    board = leaderboard.newest(name)
    assert board.metric == "rmse"
    assert [trial.tid for trial in board.trials] == [3, 2, 4, 1, 0]
    first = board.trials[0]
    assert (first.family, first.own) == ("ridge", {"alpha": 3})
    assert (first.score, first.metrics["training_rmse"], first.duration_s) == (1, 0.5, 1)


def test_a_metric_to_maximize_ranks_the_largest_first(name: str) -> None:
    search = parent(name, "maximize")
    for tid, figure in enumerate((0.1, 0.9, 0.5)):
        trial(search, tid, figure, sign=-1)
    assert [trial.score for trial in leaderboard.newest(name).trials] == [0.9, 0.5, 0.1]


def test_only_the_newest_run_counts(name: str) -> None:
    trial(parent(name), 0, 1.0)
    assert len(leaderboard.newest(name).trials) == 1
    parent(name)
    assert leaderboard.newest(name).trials == ()


def test_a_pipeline_that_never_ran_says_so(name: str) -> None:
    with pytest.raises(UserError, match="never trained"):
        leaderboard.newest(name)
