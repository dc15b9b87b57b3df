from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.base.errors import UserError
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.trials.seeds import trial_seed
from tasks.records.trials.table import Row
from tasks.search.ask import Asker, History
from tasks.search.points import first_points, point
from tasks.search.table import Vals
from tests.tasks.search.searches import pipeline

GRID = {
    "choice": [
        {"estimator": "ridge", "alpha": {"choice": [0.1, 1, 10]}},
        {"estimator": "decision_tree", "max_depth": {"uniformint": [1, 4]}},
    ]
}


def loss_of(asker: Asker, vals: Vals) -> float | None:
    """The loss of a made-up fit; some values fail."""
    params = space.evaluate(asker.node, vals)
    if params["estimator"] == "decision_tree":
        return None if params["max_depth"] > 9 else abs(params["max_depth"] - 4.0)
    return abs(math.log10(params["alpha"]) - 0.5)


def recorded(asker: Asker, tid: int, vals: Vals) -> Row:
    loss = loss_of(asker, vals)
    return Row(tid, vals, "failed" if loss is None else "finished", loss, loss, 0.0, 0)


def played(definition: Pipeline, until: int, rows: dict[int, Row] | None = None) -> dict[int, Row]:
    """The rows of a search with one slot, continued from recorded rows."""
    asker, rows = Asker(definition), dict(rows or {})
    for tid in range(until):
        if tid not in rows:
            history = History()
            history.update(rows.values())
            rows[tid] = recorded(asker, tid, asker.ask(tid, history))
    return rows


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 2**31), cut=st.integers(1, 29), algorithm=st.sampled_from(["tpe", "random"])
)
def test_interrupted_search_asks_for_the_same_points(seed: int, cut: int, algorithm: str) -> None:
    definition = pipeline(trials=30, seed=seed, algorithm=algorithm)
    whole = played(definition, 30)

    first = played(definition, cut)
    through_the_table = {
        tid: Row(tid, json.loads(json.dumps(row.vals)), *list(vars(row).values())[2:])
        for tid, row in first.items()
    }

    assert played(definition, 30, through_the_table) == whole


def test_other_seeds_ask_for_other_points() -> None:
    asked = {json.dumps(played(pipeline(trials=8, seed=seed), 8)[7].vals) for seed in range(10)}

    assert len(asked) == 10


def test_every_trial_of_a_search_has_a_seed_of_its_own() -> None:
    seeds = {trial_seed(search, tid) for search in range(30) for tid in range(100)}

    assert len(seeds) == 3000
    assert trial_seed(3, 7) == trial_seed(3, 7)
    assert all(0 <= seed < 2**32 for seed in seeds)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), data=st.data())
def test_points_lie_in_the_space_and_survive_json(seed: int, data: st.DataObject) -> None:
    definition = pipeline(
        trials=40, seed=seed, algorithm=data.draw(st.sampled_from(["tpe", "random"]))
    )
    asker = Asker(definition)
    rows = played(definition, 12)
    history = History()
    history.update(rows.values())

    vals = asker.ask(12, history)

    again = json.loads(json.dumps(vals))
    assert again == vals
    params = space.evaluate(asker.node, again)
    assert space.evaluate(asker.node, space.to_vals(asker.node, params)) == params


def test_the_answer_does_not_depend_on_how_the_history_was_read() -> None:
    definition = pipeline(trials=30)
    asker, rows = Asker(definition), list(played(definition, 20).values())
    at_once, piecemeal = History(), History()
    at_once.update(rows)
    random.Random(0).shuffle(rows)
    for row in rows:
        piecemeal.update([row])

    assert asker.ask(20, at_once) == asker.ask(20, piecemeal)
    assert piecemeal.first == 20


def history_of(rows: list[Row]) -> History:
    history = History()
    history.update(rows)
    return history


def into_failure(outcome: str | None, *, known: bool) -> float:
    """The share of a search's later points at which trials do not finish.

    Larger alphas are better, up to 1; above 1 the outcome is `outcome`. `known` says whether the
    history holds such trials.
    """
    only_ridge = {"estimator": "ridge", "alpha": {"loguniform": [-7, 7]}}
    lost = 0
    for seed in range(4):
        asker, rows = Asker(pipeline(trials=40, seed=seed, space=only_ridge)), {}
        for tid in range(40):
            vals = asker.ask(tid, history_of(list(rows.values())))
            alpha = vals["ridge.alpha"]
            loss = -math.log(alpha)
            if alpha < 1:
                rows[tid] = Row(tid, vals, "finished", loss, loss, 0.0, 0)
            elif known:
                rows[tid] = Row(tid, vals, outcome, None, None, 0.0, 0)
            lost += alpha >= 1 and tid >= 20
    return lost / 80


@pytest.mark.parametrize("outcome", ["failed", "killed", None])
def test_points_that_failed_or_still_run_are_avoided(outcome: str | None) -> None:
    assert into_failure(outcome, known=True) < 0.6
    assert into_failure(outcome, known=False) > 0.75


def tree(tid: int, depth: int, loss: float | None, outcome: str | None) -> Row:
    vals = {"estimator": 2, "decision_tree.max_depth": depth, "decision_tree.min_samples_leaf": 0}
    return Row(tid, vals, outcome, loss, loss, 0.0, 0)


def test_history_keeps_recorded_trials() -> None:
    history = history_of([tree(0, 1, 5.0, "finished"), tree(1, 2, None, None)])
    assert (history.first, history.recorded(1)) == (1, False)
    assert history.asked(1) == tree(1, 2, None, None)

    history.update([tree(1, 2, 4.0, "finished"), tree(2, 3, None, "failed")])

    assert history.first == 3
    assert history.asked(1) is None
    assert [row.tid for row in history.rows()] == [0, 1, 2]
    assert history.best() == tree(1, 2, 4.0, "finished")


def test_the_best_of_equal_trials_is_the_shorter_then_the_earlier() -> None:
    equal = [
        replace(tree(tid, 1, 5.0, "finished"), duration_s=s) for tid, s in enumerate((2, 1, 1))
    ]
    assert history_of([*equal, tree(3, 2, None, "failed")]).best() == equal[1]


def test_tpe_finds_better_points_than_chance() -> None:
    """If it did not, the history would not reach hyperopt."""

    def best(algorithm: str, seed: int) -> float:
        rows = played(pipeline(trials=60, seed=seed, algorithm=algorithm), 60).values()
        losses = sorted(row.loss for row in rows if row.loss is not None)
        return sum(losses[:20]) / 20

    tpe = [best("tpe", seed) for seed in range(3)]
    chance = [best("random", seed) for seed in range(3)]

    assert sum(tpe) < 0.7 * sum(chance)


def test_random_draws_from_the_space() -> None:
    """Each family about as often, the median of alpha in the middle of its logarithm's range."""
    asker = Asker(pipeline(trials=400, algorithm="random"))
    asked = [asker.ask(tid, History()) for tid in range(400)]
    alphas = sorted(math.log(vals["ridge.alpha"]) for vals in asked if "ridge.alpha" in vals)

    assert 100 < len(alphas) < 170
    assert abs(alphas[len(alphas) // 2] - -1) < 1


def test_grid_takes_each_point_once_in_order() -> None:
    asker = Asker(pipeline(trials=100, algorithm="grid", space=GRID))

    points = [space.evaluate(asker.node, asker.ask(tid, History())) for tid in range(asker.total)]

    assert points == [
        *({"estimator": "ridge", "alpha": alpha} for alpha in (0.1, 1, 10)),
        *({"estimator": "decision_tree", "max_depth": depth} for depth in (1, 2, 3, 4)),
    ]


def test_a_trial_of_a_grid_is_the_products_index_whatever_the_files_points() -> None:
    definition = pipeline(
        trials=3, algorithm="grid", space=GRID, points=[{"estimator": "ridge", "alpha": 10}]
    )
    asker = Asker(definition)

    assert asker.total == 3
    assert first_points(definition, asker, DEFAULTS) == []
    asked = [space.evaluate(asker.node, asker.ask(tid, History())) for tid in range(3)]
    assert asked == [{"estimator": "ridge", "alpha": alpha} for alpha in (0.1, 1, 10)]


def test_grid_needs_a_finite_space() -> None:
    with pytest.raises(UserError, match="finite"):
        Asker(pipeline(algorithm="grid"))


DEFAULTS = [
    {"estimator": "ridge", "alpha": 1.0},
    {"estimator": "elastic_net", "alpha": 1.0, "l1_ratio": 0.5},
    {"estimator": "decision_tree", "max_depth": None, "min_samples_leaf": 1},
]
MINE = {"estimator": "ridge", "alpha": 5.0}
CHAMPIONS = {"estimator": "elastic_net", "alpha": 0.25, "l1_ratio": 0.75}


@pytest.fixture
def champion(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces the question to MLflow, which `test_slot` asks for real."""
    monkeypatch.setattr("tasks.search.points.champion", lambda _: CHAMPIONS)
    return CHAMPIONS


def tried_first(trials: int, points: list[dict[str, Any]], **search: Any) -> list[dict[str, Any]]:
    definition = pipeline(trials=trials, points=points, **search)
    return [dict(first.params) for first in first_points(definition, Asker(definition), DEFAULTS)]


def test_search_begins_with_the_files_points_the_champions_and_the_defaults(
    champion: dict[str, Any],
) -> None:
    assert tried_first(24, [MINE]) == [MINE, champion, DEFAULTS[0], DEFAULTS[1]]


def test_no_point_is_tried_twice(champion: dict[str, Any]) -> None:
    assert tried_first(24, [DEFAULTS[0], champion]) == [DEFAULTS[0], champion, DEFAULTS[1]]


def test_start_up_is_a_quarter_of_the_trials(champion: dict[str, Any]) -> None:
    assert tried_first(8, [MINE]) == [MINE, champion]


def test_all_points_of_the_file_are_tried_and_never_more_than_trials() -> None:
    mine = [{"estimator": "ridge", "alpha": float(alpha)} for alpha in range(1, 6)]

    assert tried_first(8, mine) == mine
    assert tried_first(1, [MINE]) == [MINE]
    assert tried_first(3, mine) == mine[:3]


def test_a_champion_outside_the_space_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.search.points.champion", lambda _: MINE | {"alpha": 1e9})

    assert tried_first(24, [MINE]) == [MINE, DEFAULTS[0], DEFAULTS[1]]


def test_a_point_is_written_with_flat_parameters() -> None:
    asker = Asker(pipeline())
    vals = space.to_vals(asker.node, DEFAULTS[1])

    assert point(asker.node, 4, vals).params == DEFAULTS[1]
