"""The rows of a comparison: none that either model was trained on, from enough units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.clients import tracking
from tasks.gate import gate
from tasks.pipeline.schema import Metric
from tasks.records.snapshots import write_manifest
from tests.tasks.gate.world import World, bad, good, rows


def test_rows_that_the_champion_was_trained_on_are_left_out(world: World) -> None:
    test = rows(100, 2)
    world.champion(bad(), world.snapshot(train=test[:30], validation=test[30:60], test=rows(20, 4)))
    ref = gate(world.version(good(), world.snapshot(train=rows(50, 1), test=test)))
    decision = world.decision(ref)
    assert decision["rows"] == 40
    assert decision["removed"]["the champion was trained on their unit"] == 60
    assert ref.verdict == "promote"


def test_too_few_fair_rows_are_never_a_win(world: World) -> None:
    test = rows(100, 2)
    world.champion(bad(), world.snapshot(train=test[:71], test=rows(20, 4)))
    ref = gate(world.version(good(), world.snapshot(train=rows(50, 1), test=test)))
    assert (ref.verdict, ref.promote) == ("inconclusive", False)
    assert "29 test rows are left" in ref.reason


def test_rows_that_the_challenger_was_trained_on_are_left_out(world: World) -> None:
    test = rows(100, 2)
    ref = gate(world.version(good(), world.snapshot(train=test[:80], test=test)))
    assert ref.verdict == "inconclusive"
    assert world.decision(ref)["removed"] == {"the challenger was trained on their unit": 80}


def test_many_rows_of_few_units_are_never_a_win(world: World) -> None:
    world.groups = ("patient",)
    test = rows(100, 2).assign(patient=np.arange(100) % 9)
    train = rows(100, 1).assign(patient=50.0)
    ref = gate(world.version(good(), world.snapshot(train=train, test=test)))
    assert ref.verdict == "inconclusive"
    assert "have 9 units" in ref.reason


def test_copies_of_a_unit_prove_nothing(world: World) -> None:
    world.groups = ("patient",)
    train = rows(50, 1).assign(patient=-1.0)
    once = rows(60, 2).assign(patient=np.arange(60))
    errors = []
    for test in (once, pd.concat([once] * 10)):
        ref = gate(world.version(good(), world.snapshot(train=train, test=test)))
        errors.append(world.decision(ref)["improvement"]["standard_error"])
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)


@pytest.mark.parametrize("metric", ["auc", "average_precision"])
@pytest.mark.parametrize(("rare", "copies"), [(1, 2), (30, 1)])
def test_a_class_of_too_few_units_to_resample_is_no_win(
    world: World, metric: str, rare: int, copies: int
) -> None:
    """The resamples that contain every class, if any, understate the variance."""
    world.task, world.metric = "multiclass", Metric(name=metric, direction="maximize")
    world.groups = ("patient",)
    train, test = (
        rows(200, seed).assign(
            patient=1000.0 * seed + np.maximum(np.arange(200), copies - 1),
            y=lambda table: np.digitize(table["y"], [-1, 1]) + 0.0,
        )
        for seed in (1, 2)
    )
    for table in (train, test):
        table.loc[: rare * copies - 1, "y"] = 3.0 + np.arange(rare).repeat(copies)
    manifest = world.snapshot(train=train, test=test)
    model = LogisticRegression().fit(train[["x1", "x2"]], train["y"].astype("int64"))
    ref = gate(world.version(model, manifest))
    assert (ref.verdict, ref.promote) == ("inconclusive", False)
    assert f"too few units of class 3 (1) to compare the {metric}" in ref.reason
    assert "% of the resamples, more than 5 %" in ref.reason


def test_the_champions_units_follow_the_challengers_definition(world: World) -> None:
    """Each row of the champion was a unit; now each patient is one."""
    world.columns = ("x1", "x2", "patient")
    seen = rows(40, 3).assign(patient=np.arange(40) % 20)
    model = good(world.columns)
    model.coef_ = model.coef_ * 0.5
    world.champion(model, world.snapshot(train=seen, test=seen))
    world.columns, world.groups = ("x1", "x2"), ("patient",)
    test = rows(120, 2).assign(patient=np.arange(120) % 60)
    train = rows(50, 1).assign(patient=100.0)
    ref = gate(world.version(good(), world.snapshot(train=train, test=test)))
    decision = world.decision(ref)
    assert decision["removed"]["the champion was trained on their unit"] == 40
    assert (decision["rows"], decision["units"], ref.verdict) == (80, 40, "promote")


def test_units_unknown_to_the_champions_snapshot_are_no_win(world: World) -> None:
    world.champion(bad(), world.snapshot(train=rows(50, 3), test=rows(50, 4)))
    world.groups = ("patient",)
    train, test = (rows(60, seed).assign(patient=np.arange(60) + 1000 * seed) for seed in (1, 2))
    ref = gate(world.version(good(), world.snapshot(train=train, test=test)))
    assert ref.verdict == "inconclusive"
    assert "patient" in ref.reason


def test_a_champion_that_needs_other_columns_is_no_win(world: World) -> None:
    world.columns = ("x1", "x2", "age")
    world.champion(
        good(world.columns),
        world.snapshot(train=rows(50, 3).assign(age=1.0), test=rows(50, 4).assign(age=1.0)),
    )
    world.columns = ("x1", "x2")
    ref = gate(world.version(good(), world.snapshot(train=rows(50, 1), test=rows(50, 2))))
    assert ref.verdict == "inconclusive"
    assert "needs columns that the test part does not have: age" in ref.reason


def test_a_champion_of_unknown_training_rows_is_no_win(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(50, 2))
    champion = world.champion(bad(), manifest)
    tracking.client().delete_model_version_tag(world.name, str(champion.version), tracking.SNAPSHOT)
    ref = gate(world.version(good(), manifest))
    assert (ref.verdict, ref.promote) == ("inconclusive", False)
    assert "training rows are not known" in ref.reason


def test_a_champion_of_another_target_is_no_win(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(50, 2))
    other = manifest.model_copy(
        update={"target": "z", "uri": manifest.uri.replace("manifest", "other")}
    )
    write_manifest(other)
    world.champion(bad(), other)
    ref = gate(world.version(good(), manifest))
    assert ref.verdict == "inconclusive"
    assert "predicts z" in ref.reason
