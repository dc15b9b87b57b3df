from __future__ import annotations

import json
import logging

import pytest

from tasks.base.errors import UserError
from tasks.base.refs import RunRef
from tasks.clients import tracking
from tasks.pipeline import space
from tasks.records.trials.progress import summary
from tasks.records.trials.publish import publish_rest
from tasks.records.trials.table import read
from tasks.search import search
from tasks.search.slot import Slot
from tasks.select import select
from tests.tasks.search import searches
from tests.tasks.search.searches import ENDLESS, begin, children, pipeline, rows, slot_of

pytestmark = pytest.mark.usefixtures("stack")

RIDGE = {"estimator": "ridge", "alpha": {"loguniform": [-7, 5]}}
BROKEN = {"estimator": "decision_tree", "max_depth": -1}


def test_every_trial_is_recorded_once_and_published(caplog: pytest.LogCaptureFixture) -> None:
    run = begin(pipeline(trials=9))

    with caplog.at_level(logging.INFO):
        returned = search(slot_of(run))

    recorded = rows(run.run_id, "tid, outcome, attempts, run_id, published, loss, figure")
    assert [row[:3] for row in recorded] == [(tid, "finished", 1) for tid in range(9)]
    best = min(recorded, key=lambda row: row[5])
    assert returned == {"slot": 0, "recorded": 9, "best": best[6], "best_trial": best[0]}
    published = children(run)
    assert [row[3:5] for row in recorded] == [(child.info.run_id, True) for child in published]
    lines = [line for line in caplog.messages if line.startswith("trial ")]
    assert len(lines) == 9
    assert "trial 8 of 9: val_rmse" in lines[8]
    assert f"best {best[6]:.6g} (trial {best[0]})" in lines[8]


def test_a_child_run_holds_its_trial() -> None:
    point = {"estimator": "elastic_net", "alpha": 0.5, "l1_ratio": 0.25}
    definition = pipeline(trials=1, points=[point])
    run = begin(definition)

    search(slot_of(run))

    (child,) = children(run)
    assert child.info.status == "FINISHED"
    assert child.info.run_name == "trial 000 elastic_net"
    assert child.data.params == {"estimator": "elastic_net", "alpha": "0.5", "l1_ratio": "0.25"}
    figures = {
        f"{rows}_{name}" for rows in ("training", "val") for name in ("rmse", "mse", "mae", "r2")
    }
    assert set(child.data.metrics) == figures | {"duration_s"}
    took = (child.info.end_time - child.info.start_time) / 1000
    assert 0 < child.data.metrics["duration_s"] <= took + 0.01 < 30
    (trial,) = read(run.run_id)
    assert space.evaluate(space.parse(definition.search.space), trial.vals) == point
    best = summary(run.run_id).best
    assert best == trial
    assert best.score == pytest.approx(child.data.metrics["val_rmse"])


def test_a_second_call_finds_nothing_to_do() -> None:
    run = begin(pipeline(trials=2))
    search(slot_of(run))
    before = rows(run.run_id, "*")

    assert search(slot_of(run))["recorded"] == 0

    assert rows(run.run_id, "*") == before
    assert len(children(run)) == 2


def test_failed_trials_are_failed_runs_with_their_error() -> None:
    run = begin(pipeline(trials=8, space={"choice": [RIDGE, BROKEN]}))

    search(slot_of(run))

    outcomes = dict(rows(run.run_id, "tid, outcome"))
    assert set(outcomes.values()) == {"finished", "failed"}
    for child in children(run):
        failed = outcomes[int(child.data.tags[tracking.TRIAL])] == "failed"
        assert child.info.status == ("FAILED" if failed else "FINISHED")
        assert ("The 'max_depth' parameter" in child.data.tags.get("error", "")) == failed
        assert ("val_rmse" in child.data.metrics) != failed


def test_a_search_whose_trials_all_fail_ends() -> None:
    run = begin(pipeline(trials=3, space=BROKEN))

    returned = search(slot_of(run))

    assert returned == {"slot": 0, "recorded": 3, "best": None, "best_trial": None}
    trials = summary(run.run_id)
    assert (trials.asked, trials.finished, trials.failed, trials.killed) == (3, 0, 3, 0)
    assert trials.best is None
    assert trials.errors[0].startswith("trial 2: InvalidParameterError: The 'max_depth'")


def test_trial_over_its_time_is_killed_and_the_next_one_runs() -> None:
    definition = pipeline(
        trials=2,
        trial_timeout=2,
        points=[ENDLESS, {"estimator": "ridge", "alpha": 1.0}],
        space={"choice": [RIDGE, ENDLESS]},
    )
    run = begin(definition)

    search(slot_of(run))

    assert [row[0] for row in rows(run.run_id, "outcome")] == ["killed", "finished"]
    killed, finished = children(run)
    assert (killed.info.status, finished.info.status) == ("KILLED", "FINISHED")
    assert killed.data.tags["error"] == "It was over its time limit of 2 s."
    assert killed.data.metrics == {"duration_s": 2.0}


def test_search_over_its_time_ends_with_what_it_has() -> None:
    """Points that were written but not begun are closed as well."""
    points = [{"estimator": "ridge", "alpha": 1.0}, ENDLESS, {"estimator": "ridge", "alpha": 2.0}]
    run = begin(pipeline(trials=50, timeout=8, points=points, space={"choice": [RIDGE, ENDLESS]}))

    search(slot_of(run))
    again = search(slot_of(run, 1))

    assert [row[0] for row in rows(run.run_id, "outcome")] == ["finished", "killed", "killed"] + [
        "killed"
    ] * (len(rows(run.run_id)) - 3)
    assert again["recorded"] == 0
    begun = rows(run.run_id, "attempts, error")
    assert begun[1][0] == 1
    assert begun[2] == (0, "The time of the search was up.")
    assert {child.info.status for child in children(run)} == {"FINISHED", "KILLED"}


def test_the_champions_parameters_are_tried_after_the_files() -> None:
    champions = {"estimator": "elastic_net", "alpha": 0.0625, "l1_ratio": 0.5}
    mine = {"estimator": "ridge", "alpha": 3.0}
    definition = pipeline("with_champion", trials=12, points=[mine])
    client = tracking.client()
    earlier = begin(definition)
    client.set_tag(earlier.run_id, tracking.BEST, json.dumps({"trial": 3, "params": champions}))
    client.create_registered_model(definition.name)
    version = client.create_model_version(definition.name, "s3://models/none", earlier.run_id)
    client.set_registered_model_alias(definition.name, tracking.CHAMPION, version.version)

    run = begin(definition)
    search(slot_of(run))

    tried = [params for (params,) in rows(run.run_id, "params")]
    assert tried[:3] == [mine, champions, {"estimator": "ridge", "alpha": 1.0}]
    assert len(tried) == 12


def test_the_first_points_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion that moves while the search runs changes nothing."""
    run = begin(pipeline(trials=8))
    with monkeypatch.context() as patch:
        patch.setattr(Slot, "_take", lambda *_: None)  # as if it were killed at this point
        search(slot_of(run))
    first = rows(run.run_id, "tid, vals")
    moved = {"estimator": "ridge", "alpha": 0.5}

    monkeypatch.setattr("tasks.search.points.champion", lambda _: moved)
    search(slot_of(run))

    assert len(first) == 2
    assert rows(run.run_id, "tid, vals")[:2] == first
    assert moved not in [params for (params,) in rows(run.run_id, "params")]


def test_folds_give_means_and_spreads() -> None:
    run = begin(pipeline(trials=1, resampling={"folds": 3}))

    search(slot_of(run))

    (child,) = children(run)
    assert child.data.metrics["val_rmse_std"] > 0
    select(run)
    parent = tracking.client().get_run(run.run_id).data.metrics
    assert parent == {name: child.data.metrics[name] for name in ("val_rmse", "val_rmse_std")}


def test_a_deleted_child_run_does_not_change_the_selection() -> None:
    """Selection, report and leaderboard all read the table."""
    run = begin(pipeline(trials=2))
    search(slot_of(run))
    best = summary(run.run_id).best
    assert best is not None
    tracking.client().delete_run(best.run_id)

    assert select(run).trial == best.tid


def test_grid_ends_with_its_points() -> None:
    grid = {"estimator": "ridge", "alpha": {"choice": [0.1, 1, 10]}}
    run = begin(pipeline(trials=40, algorithm="grid", space=grid))

    search(slot_of(run))

    assert [row[0]["alpha"] for row in rows(run.run_id, "params")] == [0.1, 1, 10]


def test_a_snapshot_that_does_not_fit_is_an_error_at_once() -> None:
    run = begin(pipeline(trials=3))
    bare = RunRef(**run.model_dump() | {"snapshot_uri": searches.snapshot(validation=0.0)})

    with pytest.raises(UserError, match="no validation part"):
        search(slot_of(bare))

    assert rows(run.run_id) == []


def test_nothing_to_publish_is_no_error() -> None:
    run = begin(pipeline())

    publish_rest(run)

    assert summary(run.run_id).asked == 0
