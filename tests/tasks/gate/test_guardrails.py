"""Slices, size and latency of versions in a real registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from tasks.gate import gate
from tasks.pipeline.schema import Gate, Slices
from tests.tasks.gate.world import RULES, World, bad, good, rows

SLICED = RULES.model_copy(update={"slices": (Slices(by="shop", max_worsening=0.1),)})


def shops(count: int, seed: int, few: int = 0) -> pd.DataFrame:
    """Rows of three shops: most of 1, some of 2, `few` of 3; `x2` matters in shop 2."""
    table = rows(count, seed)
    shop = np.where(np.arange(count) < few, 3, np.where(np.arange(count) % 4 == 0, 2, 1))
    return table.assign(shop=shop.astype(float), y=table["y"] + 2 * table["x2"] * (shop == 2))


def judged(world: World, version: Any) -> dict[str, dict[str, Any]]:
    """The guardrails of a version's decision by their names, and the decision itself by ""."""
    decision = world.decision(gate(version))
    return {rail["name"]: rail for rail in decision["guardrails"]} | {"": decision}


@pytest.fixture
def sliced(world: World) -> World:
    world.columns, world.integers, world.rules = ("x1", "x2", "shop"), ("shop",), SLICED
    return world


def sloped(first: float, second: float) -> LinearRegression:
    """A model of three columns with these slopes of `x1` and `x2`."""
    model = good(("x1", "x2", "shop"))
    model.coef_ = np.array([first, second, 0.0])
    return model


def filling(model: LinearRegression) -> Pipeline:
    """The model with missing values filled by zeros."""
    fill = SimpleImputer(strategy="constant", fill_value=0.0).set_output(transform="pandas")
    fill.fit(shops(10, 1)[["x1", "x2", "shop"]])
    return Pipeline([("fill", fill), ("model", model)])


def test_a_better_model_that_harms_a_slice_is_rejected(sliced: World) -> None:
    manifest = sliced.snapshot(train=shops(200, 1), test=shops(400, 2, few=20))
    sliced.champion(sloped(1.0, 1.0), manifest)
    rails = judged(sliced, sliced.version(sloped(2.0, 0.0), manifest))
    assert rails[""]["improvement"]["lower"] > 0
    assert rails[""]["verdict"] == "reject"
    assert rails["shop = 1"]["verdict"] == "kept"
    assert rails["shop = 1"]["figure"] < 0
    harmed = rails["shop = 2"]
    assert (harmed["verdict"], harmed["limit"]) == ("broken", 0.1)
    assert harmed["figure"] > 0.1
    assert harmed["text"] in rails[""]["reason"]
    assert "97.5 % confidence" in harmed["text"]  # two slices are judged
    assert "breaks the limit 0.1" in harmed["text"]
    assert rails["shop = 3"]["verdict"] == "not judged"
    assert "20 rows are too few" in rails["shop = 3"]["text"]


def test_a_slice_may_be_worse_by_as_much_as_the_file_allows(sliced: World) -> None:
    sliced.rules = RULES.model_copy(update={"slices": (Slices(by="shop", max_worsening=3),)})
    manifest = sliced.snapshot(train=shops(200, 1), test=shops(400, 2))
    sliced.champion(sloped(1.0, 1.0), manifest)
    rails = judged(sliced, sliced.version(sloped(2.0, 0.0), manifest))
    assert rails["shop = 2"]["verdict"] == "kept"
    assert rails["shop = 2"]["figure"] > 0.1
    assert rails[""]["verdict"] == "promote"


def test_a_difference_that_few_rows_do_not_show_breaks_nothing(sliced: World) -> None:
    """Twelve rows do not show that a model that is worse by chance is worse."""
    sliced.rules = RULES.model_copy(update={"slices": (Slices(by="shop", min_rows=10),)})
    manifest = sliced.snapshot(train=shops(300, 1), test=shops(400, 2, few=12))
    sliced.champion(sloped(1.9, 0.3), manifest)
    rails = judged(sliced, sliced.version(sloped(2.0, 0.3), manifest))
    assert rails["shop = 3"]["verdict"] == "kept"
    assert "98.33 % confidence" in rails["shop = 3"]["text"]


def test_rows_without_a_value_are_a_slice_and_a_slice_may_have_its_own_metric(
    sliced: World,
) -> None:
    sliced.rules = RULES.model_copy(update={"slices": (Slices(by="shop", metric="mae"),)})
    test = shops(400, 2)
    test["shop"] = test["shop"].where(test["shop"] == 1)
    manifest = sliced.snapshot(train=shops(200, 1), test=test)
    champion, challenger = (filling(sloped(*slopes)) for slopes in ((1.0, 0.0), (2.0, 0.5)))
    sliced.champion(champion, manifest)
    rails = judged(sliced, sliced.version(challenger, manifest))
    assert rails["shop = missing"]["verdict"] == "kept"
    assert "mae" in rails["shop = missing"]["text"]
    assert "100 rows" in rails["shop = missing"]["text"]


def test_the_slices_of_a_first_model_are_shown_not_judged(sliced: World) -> None:
    manifest = sliced.snapshot(train=shops(200, 1), test=shops(400, 2))
    rails = judged(sliced, sliced.version(sloped(2.0, 0.5), manifest))
    assert rails["shop = 2"]["verdict"] == "not judged"
    assert "there is no champion" in rails["shop = 2"]["text"]
    assert rails[""]["verdict"] == "promote"


def test_a_slice_of_one_class_has_no_metric_of_ranks(sliced: World) -> None:
    sliced.task = "binary"
    sliced.rules = RULES.model_copy(
        update={"slices": (Slices(by="shop", metric="auc"),), "thresholds": {"recall": 0.5}}
    )
    sliced.metric = type(sliced.metric)(name="log_loss", direction="minimize")
    train, test = (
        table.assign(y=((table["y"] > 0) & (table["shop"] == 1)).astype(float))
        for table in (shops(300, 1), shops(400, 2))
    )
    manifest = sliced.snapshot(train=train, test=test)
    model = LogisticRegression().fit(train[["x1", "x2", "shop"]], train["y"].astype(int))
    sliced.champion(model, manifest)
    rails = judged(sliced, sliced.version(model, manifest))
    assert rails["shop = 2"]["verdict"] == "not judged"
    assert "no auc" in rails["shop = 2"]["text"]
    assert rails["shop = 1"]["verdict"] == "kept"
    assert "worse by 0, more than 0 and less than 0" in rails["shop = 1"]["text"]


def test_a_slice_with_a_class_of_too_few_units_is_not_judged(sliced: World) -> None:
    sliced.task = "binary"
    sliced.rules = RULES.model_copy(update={"slices": (Slices(by="shop", metric="auc"),)})
    sliced.metric = type(sliced.metric)(name="log_loss", direction="minimize")
    train, test = (
        table.assign(y=((table["y"] > 0) & ((table["shop"] == 1) | (table.index == 0))) + 0.0)
        for table in (shops(300, 1), shops(400, 3))
    )
    assert test.loc[test["shop"] == 2, "y"].sum() == 1
    manifest = sliced.snapshot(train=train, test=test)
    model = LogisticRegression().fit(train[["x1", "x2", "shop"]], train["y"].astype(int))
    sliced.champion(model, manifest)
    rails = judged(sliced, sliced.version(model, manifest))
    assert rails["shop = 2"]["verdict"] == "not judged"
    assert "shop = 2 (not judged: " in rails["shop = 2"]["text"]
    assert "too few units of class 1 (1) to compare the auc" in rails["shop = 2"]["text"]
    assert rails["shop = 1"]["verdict"] == "kept"


def test_a_slice_is_judged_if_a_rare_class_prevents_the_comparison(sliced: World) -> None:
    sliced.task = "multiclass"
    sliced.rules = RULES.model_copy(update={"slices": (Slices(by="shop", metric="accuracy"),)})
    sliced.metric = type(sliced.metric)(name="auc", direction="maximize")
    train, test = (
        table.assign(y=np.where(table.index == 1, 2.0, (table["y"] > 0) + 0.0))
        for table in (shops(300, 1), shops(400, 2))
    )
    manifest = sliced.snapshot(train=train, test=test)
    columns, truth = train[["x1", "x2", "shop"]], train["y"].astype(int)
    sliced.champion(LogisticRegression().fit(columns, truth), manifest)
    harmful = LogisticRegression().fit(columns, truth)
    harmful.coef_ = -harmful.coef_
    rails = judged(sliced, sliced.version(harmful, manifest))
    assert rails[""]["improvement"] is None
    assert "too few units of class 2" in rails[""]["obstacle"]
    assert rails["shop = 1"]["verdict"] == "broken"
    assert rails[""]["verdict"] == "reject"


def test_a_model_that_is_too_large_is_rejected(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.rules = RULES.model_copy(update={"model_size": "1k"})
    rails = judged(world, world.version(good(), manifest))
    assert rails["model size"]["verdict"] == "broken"
    assert rails["model size"]["figure"] > 1024  # the MLmodel file and an estimator
    assert rails["model size"]["limit"] == 1024
    assert rails[""]["verdict"] == "reject"
    world.rules = RULES.model_copy(update={"model_size": "1m"})
    rails = judged(world, world.version(good(), manifest))
    assert rails["model size"]["verdict"] == "kept"
    assert rails[""]["verdict"] == "promote"


@pytest.mark.parametrize(("limit", "verdict"), [(1e-6, "broken"), (60_000.0, "kept")])
def test_the_latency_is_measured_on_the_smoke_tests_rows(
    world: World, limit: float, verdict: str
) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.rules = RULES.model_copy(update={"latency_ms": limit})
    world.smoke_test = {"inputs": {"columns": ["x1", "x2"], "data": [[1.0, 2.0]] * 3}}
    rails = judged(world, world.version(good(), manifest))
    assert rails["latency"]["verdict"] == verdict
    assert rails["latency"]["figure"] > 0
    assert "for 3 rows" in rails["latency"]["text"]


def test_a_model_without_a_smoke_test_has_no_latency(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.rules = RULES.model_copy(update={"latency_ms": 1000.0})
    rails = judged(world, world.version(good(), manifest))
    assert (rails["latency"]["verdict"], rails["latency"]["figure"]) == ("not judged", None)
    assert rails[""]["verdict"] == "promote"


def test_guardrails_are_judged_if_nothing_can_be_compared(world: World) -> None:
    world.rules = RULES.model_copy(update={"model_size": "1k"})
    test = rows(100, 2)
    world.champion(bad(), world.snapshot(train=test[:90], test=rows(20, 4)))
    rails = judged(world, world.version(good(), world.snapshot(train=rows(50, 1), test=test)))
    assert rails[""]["improvement"] is None
    assert rails[""]["verdict"] == "reject"


def test_sizes_are_powers_of_1024() -> None:
    assert [Gate(model_size=size).model_bytes for size in ("500k", "50m", "1g")] == [
        500 * 1024,
        50 * 1024**2,
        1024**3,
    ]
    assert Gate().model_bytes is None
