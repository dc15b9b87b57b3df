"""Against real MLflow, store and PostgreSQL, with small models of scikit-learn."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from tasks import ledger, plan, registry, store, tracking
from tasks.errors import ConflictError
from tasks.gate import gate
from tasks.pipeline.schema import Column, Data, Gate, Metric, Pipeline, Search, Source, Split
from tasks.prepare import units as hashing
from tasks.prepare.snapshot import (
    UNIT,
    Dropped,
    Manifest,
    Units,
    now,
    write_manifest,
    write_part,
)
from tasks.refs import DecisionRef, VersionRef
from tasks.settings import Settings

RULES = Gate(resamples=500)


@dataclass
class World:
    """One pipeline whose versions a test makes as it needs them."""

    name: str
    task: Any = "regression"
    metric: Metric = field(default_factory=lambda: Metric(name="rmse", direction="minimize"))
    columns: tuple[str, ...] = ("x1", "x2")
    groups: tuple[str, ...] = ()
    rules: Gate = RULES

    @property
    def pipeline(self) -> Pipeline:
        names = (*self.columns, *self.groups, "y")
        return Pipeline(
            name=self.name,
            description="d",
            owner="o",
            data=Data(
                sources=(Source(uri="file:///none.csv"),),
                target="y",
                task=self.task,
                columns={name: Column() for name in names},
            ),
            split=Split(groups=self.groups),
            search=Search(space={}),
            metric=self.metric,
            gate=self.rules,
        )

    def snapshot(self, **parts: pd.DataFrame) -> Manifest:
        """A snapshot of these parts."""
        pipeline, folder = self.pipeline, store.data_uri(f"snapshots/{self.name}/{uuid4().hex}")
        columns = self.groups or tuple(sorted(self.columns))
        manifest = Manifest(
            name=self.name,
            address=uuid4().hex,
            uri=f"{folder}/manifest.json",
            created_at=now(),
            target="y",
            task=self.task,
            columns=pipeline.data.columns,
            features=pipeline.feature_names,
            units=Units(kind="groups" if self.groups else "row", columns=columns),
            split=pipeline.split,
            parts={part: f"{folder}/{part}.parquet" for part in parts},
            files={
                part: write_part(
                    f"{folder}/{part}.parquet",
                    rows.assign(**{UNIT: hashing.hashes(rows, columns)}),
                    pipeline.data,
                )
                for part, rows in parts.items()
            },
            statistics={},
            sources=(),
            function=None,
            dropped=Dropped(rows=0, report=None),
        )
        write_manifest(manifest)
        return manifest

    def version(self, model: Any, manifest: Manifest) -> VersionRef:
        """A version of a fitted model, challenger from now on."""
        client, plan_uri = tracking.client(), plan.write(self.pipeline)
        run = client.create_run(
            tracking.experiment(self.name), tags={tracking.DAG_RUN: f"train/{uuid4().hex}"}
        )
        mlflow.start_run(run.info.run_id)
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="skops",
            skops_trusted_types=[],
            pip_requirements=["scikit-learn"],
        )
        mlflow.end_run("RUNNING")
        if not client.search_registered_models(f"name = '{self.name}'"):
            client.create_registered_model(self.name)
        made = client.create_model_version(
            self.name,
            logged.model_uri,
            run.info.run_id,
            tags={tracking.SNAPSHOT: manifest.uri},
            model_id=logged.model_id,
        )
        client.set_registered_model_alias(self.name, tracking.CHALLENGER, made.version)
        return VersionRef(
            name=self.name,
            run_id=run.info.run_id,
            pipeline=plan_uri,
            snapshot=manifest.uri,
            version=int(made.version),
        )

    def champion(self, model: Any, manifest: Manifest) -> VersionRef:
        """A version that serves."""
        version = self.version(model, manifest)
        alias(self.name, version.version)
        return version

    def decision(self, ref: DecisionRef) -> dict[str, Any]:
        """What the ledger holds of a decision."""
        entry = ledger.find(f"decision:{ref.run_id}")
        assert entry is not None
        return entry.evidence


def alias(name: str, version: int) -> None:
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, str(version))


@pytest.fixture
def world(servers: Settings) -> World:
    return World(f"gate_{uuid4().hex[:8]}")


def rows(count: int, seed: int = 0) -> pd.DataFrame:
    """y = 2 x1 + noise; x2 says nothing."""
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=(2, count))
    return pd.DataFrame({"x1": x1, "x2": x2, "y": 2 * x1 + rng.normal(size=count)})


def good(columns: tuple[str, ...] = ("x1", "x2")) -> LinearRegression:
    table = rows(500, seed=9)
    return LinearRegression().fit(
        table.assign(**dict.fromkeys(columns[2:], 0.0))[list(columns)], table["y"]
    )


def bad(shrunk: float = 0.5) -> LinearRegression:
    model = good()
    model.coef_ = model.coef_ * shrunk
    return model


def test_a_clearly_better_challenger_is_promoted_with_its_evidence(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = world.snapshot(train=rows(100, 1), test=rows(100, 2))
    world.champion(bad(), world.snapshot(train=rows(100, 3), test=rows(20, 4)))
    version = world.version(good(), manifest)
    with caplog.at_level(logging.INFO, "tasks.gate"):
        ref = gate(version)
    assert (ref.verdict, ref.promote, ref.champion, ref.version) == ("promote", True, 1, 2)

    found = world.decision(ref)
    assert found["improvement"]["estimate"] == pytest.approx(
        found["opponent_score"] - found["challenger_score"]
    )
    assert 0 < found["improvement"]["lower"] < found["improvement"]["estimate"]
    assert (found["rows"], found["units"], found["test_rows"]) == (100, 100, 100)
    assert found["test"] == manifest.files["test"].sha256
    assert (found["improvement"]["seed"], found["improvement"]["resamples"]) == (0, 500)

    run = tracking.client().get_run(version.run_id)
    assert run.data.tags[tracking.VERDICT] == "promote"
    uri = run.info.artifact_uri
    assert json.loads(mlflow.artifacts.load_text(f"{uri}/decision.json")) == found
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


def test_rows_that_the_champion_was_trained_on_are_left_out(world: World) -> None:
    test = rows(100, 2)
    world.champion(bad(), world.snapshot(train=test[:30], validation=test[30:60], test=rows(20, 4)))
    ref = gate(world.version(good(), world.snapshot(train=rows(50, 1), test=test)))
    found = world.decision(ref)
    assert found["rows"] == 40
    assert found["removed"]["the champion was trained on their unit"] == 60
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
    assert "of 9 units" in ref.reason


def test_copies_of_a_unit_prove_nothing(world: World) -> None:
    world.groups = ("patient",)
    train = rows(50, 1).assign(patient=-1.0)
    once = rows(60, 2).assign(patient=np.arange(60))
    errors = []
    for test in (once, pd.concat([once] * 10)):
        ref = gate(world.version(good(), world.snapshot(train=train, test=test)))
        errors.append(world.decision(ref)["improvement"]["standard_error"])
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)


def test_units_of_the_champion_are_found_under_the_challengers_definition(world: World) -> None:
    """The champion's rows were units by themselves; now a patient is one."""
    world.columns = ("x1", "x2", "patient")
    seen = rows(40, 3).assign(patient=np.arange(40) % 20)
    model = good(world.columns)
    model.coef_ = model.coef_ * 0.5
    world.champion(model, world.snapshot(train=seen, test=seen))
    world.columns, world.groups = ("x1", "x2"), ("patient",)
    test = rows(120, 2).assign(patient=np.arange(120) % 60)
    train = rows(50, 1).assign(patient=100.0)
    ref = gate(world.version(good(), world.snapshot(train=train, test=test)))
    found = world.decision(ref)
    assert found["removed"]["the champion was trained on their unit"] == 40
    assert (found["rows"], found["units"], ref.verdict) == (80, 40, "promote")


def test_units_that_the_champions_snapshot_cannot_tell_are_no_win(world: World) -> None:
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
    assert "needs columns that the test part lacks: age" in ref.reason


def test_a_champion_of_unknown_training_rows_is_no_win(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(50, 2))
    champion = world.champion(bad(), manifest)
    tracking.client().delete_model_version_tag(world.name, str(champion.version), tracking.SNAPSHOT)
    ref = gate(world.version(good(), manifest))
    assert (ref.verdict, ref.promote) == ("inconclusive", False)
    assert "nobody knows which rows" in ref.reason


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
    # a champion that never saw one of the classes is scored all the same
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
    found = world.decision(ref)
    assert (found["test"], found["improvement"], found["challenger_score"]) == (None, None, None)


def test_a_repeated_gate_gives_the_recorded_decision(world: World) -> None:
    manifest = world.snapshot(train=rows(50, 1), test=rows(100, 2))
    version = world.version(good(), manifest)
    first = gate(version)
    alias(world.name, version.version)  # as after its promotion: compared with itself it would lose
    tracking.client().delete_tag(version.run_id, tracking.VERDICT)
    assert gate(version) == first
    assert len(ledger.history(world.name)) == 1
    assert tracking.client().get_run(version.run_id).data.tags[tracking.VERDICT] == "promote"
    with pytest.raises(ConflictError, match="judged with version 1"):
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
    """Splits of grown data with another seed put trained units into the test part."""
    rng = np.random.default_rng(5)
    table = rows(400, 2).round(1)  # many equal rows

    def split(part: pd.DataFrame, seed: int) -> Manifest:
        position = hashing.positions(hashing.hashes(part, ("x1", "x2")), seed)
        return world.snapshot(train=part[position >= 0.5], test=part[position < 0.5])

    for seed in range(3):
        champion = split(table.iloc[: 300 + 10 * seed], seed)
        world.champion(bad(), champion)
        manifest = split(table.sample(frac=1, random_state=rng.integers(99)), seed + 1)
        found = world.decision(gate(world.version(good(), manifest)))
        trained = hashing.hashes(table.iloc[: 300 + 10 * seed], ("x1", "x2"))
        side = hashing.positions(trained, seed) >= 0.5
        tests = hashing.hashes(table, ("x1", "x2"))
        tests = tests[hashing.positions(tests, seed + 1) < 0.5]
        assert 0 < found["rows"] < found["test_rows"] == len(tests)
        assert found["rows"] == int((~np.isin(tests, trained[side])).sum())
