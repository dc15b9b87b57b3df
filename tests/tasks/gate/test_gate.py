"""Against real MLflow, store and PostgreSQL, with small models of scikit-learn."""

from __future__ import annotations

import json
import logging

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression

from tasks.base.errors import ConflictError
from tasks.clients import tracking
from tasks.data import units
from tasks.gate import gate
from tasks.pipeline.schema import Metric
from tasks.records import ledger, registry
from tasks.records.snapshots import Manifest
from tests.tasks.gate.world import RULES, World, alias, bad, good, rows


def test_a_clearly_better_challenger_is_promoted_with_its_evidence(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = world.snapshot(train=rows(100, 1), test=rows(100, 2))
    world.champion(bad(), world.snapshot(train=rows(100, 3), test=rows(20, 4)))
    version = world.version(good(), manifest)
    with caplog.at_level(logging.INFO, "tasks.gate"):
        ref = gate(version)
    assert (ref.verdict, ref.promote, ref.champion, ref.version) == ("promote", True, 1, 2)

    decision = world.decision(ref)
    assert decision["improvement"]["estimate"] == pytest.approx(
        decision["opponent_score"] - decision["challenger_score"]
    )
    assert 0 < decision["improvement"]["lower"] < decision["improvement"]["estimate"]
    assert (decision["rows"], decision["units"], decision["test_rows"]) == (100, 100, 100)
    assert decision["test"] == manifest.files["test"].sha256
    assert (decision["improvement"]["seed"], decision["improvement"]["resamples"]) == (0, 500)

    run = tracking.client().get_run(version.run_id)
    assert run.data.tags[tracking.VERDICT] == "promote"
    uri = run.info.artifact_uri
    assert json.loads(mlflow.artifacts.load_text(f"{uri}/decision.json")) == decision
    text = mlflow.artifacts.load_text(f"{uri}/decision.md")
    assert "version 2: passed" in text
    assert text in caplog.text
    tags = registry.versions(world.name)[2].tags
    assert (tags[tracking.VERDICT], tags[tracking.STAGE]) == ("promote", "Staging")
    entry = ledger.history(world.name)[0]
    assert (entry.kind, entry.from_version, entry.to_version) == ("decision", 1, 2)
    assert entry.actor == run.data.tags[tracking.DAG_RUN]


def test_equal_models_are_not_promoted(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(200, 2))
    world.champion(good(), manifest)
    ref = gate(world.version(good(), manifest))
    assert (ref.verdict, ref.promote) == ("inconclusive", False)
    assert world.decision(ref)["improvement"]["estimate"] == 0
    assert registry.versions(world.name)[2].tags[tracking.STAGE] == "Archived"


def test_a_clearly_worse_challenger_is_rejected(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.champion(good(), manifest)
    ref = gate(world.version(bad(), manifest))
    assert (ref.verdict, ref.promote) == ("reject", False)


def test_a_metric_to_maximize_is_compared_the_right_way_round(world: World) -> None:
    world.metric = Metric(name="r2", direction="maximize")
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.champion(bad(), manifest)
    assert gate(world.version(good(), manifest)).verdict == "promote"
    alias(world.name, 2)
    assert gate(world.version(bad(), manifest)).verdict == "reject"


def test_the_improvement_must_be_as_large_as_asked(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(300, 2))
    world.rules = RULES.model_copy(update={"min_improvement": 5.0})
    world.champion(bad(), manifest)
    ref = gate(world.version(good(), manifest))
    assert ref.verdict == "reject"
    assert "by more than 5" in ref.reason


def test_a_broken_threshold_rejects_what_beats_the_champion(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.champion(bad(), manifest)
    world.rules = RULES.model_copy(update={"thresholds": {"r2": 0.99, "mae": 5.0}})
    ref = gate(world.version(good(), manifest))
    assert (ref.verdict, ref.promote) == ("reject", False)
    assert "r2" in ref.reason
    assert "mae" not in ref.reason


@pytest.mark.parametrize(("metric", "strategy"), [("rmse", "mean"), ("mae", "median")])
def test_a_first_model_must_beat_a_constant(world: World, metric: str, strategy: str) -> None:
    world.metric = Metric(name=metric, direction="minimize")
    manifest = world.snapshot(train=rows(50, 1), validation=rows(50, 3), test=rows(100, 2))
    constant = DummyRegressor(strategy=strategy).fit(
        np.zeros((100, 1)), pd.concat([rows(50, 1), rows(50, 3)])["y"]
    )
    ref = gate(world.version(constant, manifest))
    assert (ref.verdict, ref.champion) == ("inconclusive", None)
    assert world.decision(ref)["improvement"]["estimate"] == pytest.approx(0, abs=1e-12)
    assert strategy in ref.reason
    assert gate(world.version(good(), manifest)).verdict == "promote"


def test_the_constant_of_f1_is_the_best_one(world: World) -> None:
    """Not the most frequent class, whose f1 is 0 if the positive one is rare."""

    def ill(count: int, seed: int) -> pd.DataFrame:
        table = rows(count, seed)
        return table.assign(y=(table["y"] > table["y"].quantile(0.6)).astype(float))

    world.task, world.metric = "binary", Metric(name="f1", direction="maximize")
    manifest = world.snapshot(train=ill(100, 1), test=ill(200, 2))
    always = DummyClassifier(strategy="constant", constant=1)
    always.fit(np.zeros((2, 1)), np.array([0, 1]))
    ref = gate(world.version(always, manifest))
    assert (ref.verdict, "always 1" in ref.reason) == ("inconclusive", True)


def test_a_first_model_must_keep_the_thresholds_too(world: World) -> None:
    world.rules = RULES.model_copy(update={"thresholds": {"rmse": 0.1}})
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    assert gate(world.version(good(), manifest)).verdict == "reject"


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "f1"])
def test_classifiers(world: World, metric: str) -> None:
    def labelled(count: int, seed: int) -> pd.DataFrame:
        table = rows(count, seed)
        return table.assign(y=np.digitize(table["y"], [-1.5, 1.5]).astype(float))

    world.task = "multiclass"
    world.metric = Metric(name=metric, direction="minimize" if metric == "log_loss" else "maximize")
    train, test = labelled(300, 1), labelled(200, 2)
    manifest = world.snapshot(train=train, test=test)
    inputs, truth = train[["x1", "x2"]], train["y"].astype("int64")
    model = LogisticRegression().fit(inputs, truth)
    assert gate(world.version(DummyClassifier().fit(inputs, truth), manifest)).verdict != "promote"
    assert gate(world.version(model, manifest)).verdict == "promote"
    # A champion that never saw one of the classes is still scored.
    two = LogisticRegression().fit(inputs[truth > 0], truth[truth > 0])
    world.champion(two, world.snapshot(train=train[train["y"] > 0], test=test))
    ref = gate(world.version(model, world.snapshot(train=labelled(50, 5), test=labelled(200, 6))))
    assert ref.verdict == "promote"


def test_dry_run_promotes_whatever_the_verdict(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    world.champion(good(), manifest)
    world.rules = RULES.model_copy(update={"mode": "dry_run"})
    ref = gate(world.version(bad(), manifest))
    assert (ref.verdict, ref.promote) == ("reject", True)
    assert registry.versions(world.name)[2].tags[tracking.STAGE] == "Staging"
    assert world.decision(ref)["mode"] == "dry_run"


def test_a_disabled_gate_compares_nothing_and_says_so(world: World) -> None:
    world.rules = RULES.model_copy(update={"mode": "disabled"})
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    ref = gate(world.version(bad(), manifest))
    assert (ref.verdict, ref.promote) == ("inconclusive", True)
    assert "disabled" in ref.reason
    decision = world.decision(ref)
    assert (decision["test"], decision["improvement"], decision["challenger_score"]) == (
        None,
        None,
        None,
    )


def test_a_repeated_gate_returns_the_recorded_decision(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    version = world.version(good(), manifest)
    first = gate(version)
    alias(
        world.name, version.version
    )  # as after its promotion: compared with itself it would not win
    tracking.client().delete_tag(version.run_id, tracking.VERDICT)
    assert gate(version) == first
    assert len(ledger.history(world.name)) == 1
    assert tracking.client().get_run(version.run_id).data.tags[tracking.VERDICT] == "promote"
    with pytest.raises(ConflictError, match=r"judged as .* version 1, not as .* version 2"):
        gate(version.model_copy(update={"version": 2}))


def test_uses_of_a_test_part_are_counted(world: World) -> None:
    test = rows(100, 2)
    manifest = world.snapshot(train=rows(50, 1), test=test)
    refs = [gate(world.version(good(), manifest)) for _ in range(2)]
    grown = world.snapshot(train=rows(90, 1), test=test)
    refs.append(gate(world.version(good(), grown)))
    other = world.snapshot(train=rows(50, 1), test=rows(100, 7))
    refs.append(gate(world.version(good(), other)))
    assert [world.decision(ref)["used_before"] for ref in refs] == [0, 1, 2, 0]


def test_gate_rows_and_training_units_of_the_champion_never_meet(world: World) -> None:
    """Another seed on grown data puts units that were trained on into the test part."""
    rng = np.random.default_rng(5)
    table = rows(400, 2).round(1)  # many equal rows

    def split(part: pd.DataFrame, seed: int) -> Manifest:
        position = units.positions(units.hashes(part, ("x1", "x2")), seed)
        return world.snapshot(train=part[position >= 0.5], test=part[position < 0.5])

    for seed in range(3):
        champion = split(table.iloc[: 300 + 10 * seed], seed)
        world.champion(bad(), champion)
        manifest = split(table.sample(frac=1, random_state=rng.integers(99)), seed + 1)
        decision = world.decision(gate(world.version(good(), manifest)))
        trained = units.hashes(table.iloc[: 300 + 10 * seed], ("x1", "x2"))
        side = units.positions(trained, seed) >= 0.5
        tests = units.hashes(table, ("x1", "x2"))
        tests = tests[units.positions(tests, seed + 1) < 0.5]
        assert 0 < decision["rows"] < decision["test_rows"] == len(tests)
        assert decision["rows"] == int((~np.isin(tests, trained[side])).sum())
