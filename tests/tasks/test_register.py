"""Runs that were logged by hand: errors name what is missing, and the chain accepts the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
import pytest
from mlflow.models import infer_signature
from mlflow.pyfunc import PythonModel
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

from tasks.base.errors import ConflictError, UserError
from tasks.base.refs import VersionRef
from tasks.base.settings import Settings, settings
from tasks.build import build
from tasks.clients import tracking
from tasks.gate import gate
from tasks.pipeline.load import load
from tasks.prepare import make
from tasks.promote import promote
from tasks.records import ledger, registry
from tasks.records.snapshots import UNIT, Manifest, read_part
from tasks.register import check, register
from tasks.serving.model_files import fetch, read_card
from tasks.serving.targets.process import ProcessTarget

FILE = """\
description: Progression of diabetes, by hand
owner: tests
data:
  sources: [{uri: "sklearn://diabetes"}]
  target: target
  task: regression
  columns:
    {age: {}, sex: {}, bmi: {}, bp: {}, s1: {}, s2: {}, s3: {}, s4: {}, s5: {}, s6: {}, target: {}}
search: {trials: 1, slots: 1, space: {estimator: ridge}}
metric: rmse
"""
FEATURES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


@pytest.fixture
def name(servers: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A pipeline of its own for each test."""
    name = f"hand_{uuid4().hex[:8]}"
    (tmp_path / f"{name}.yaml").write_text(FILE)
    monkeypatch.setenv("MLOPS_PIPELINES", str(tmp_path))
    settings.cache_clear()
    yield name
    for deployment in ProcessTarget().list(name):
        ProcessTarget().stop(deployment, 0)
    monkeypatch.undo()
    settings.cache_clear()


def snapshot(name: str) -> Manifest:
    return make.make_snapshot(load(name))


def by_hand(
    manifest: Manifest | None,
    *,
    columns: list[str] = FEATURES,
    part: str = "train",
    also: tuple[str, ...] = (),
    model: Any = None,
    **options: Any,
) -> str:
    """Log a run as in a notebook; without a manifest it does not name its data.

    `also` are the URIs of further parts that it was trained on.
    """
    experiment = tracking.experiment("by hand")
    if manifest is None:
        rows = load_diabetes(as_frame=True, scaled=False).frame
    else:
        rows = read_part(manifest, part)
    with mlflow.start_run(experiment_id=experiment) as run:
        if manifest is not None:
            source = manifest.parts[part]
            # MLflow would take an unnamed one for another pipeline's dataset of the same digest.
            dataset = mlflow.data.from_pandas(
                rows, source=source, targets="target", name=f"{manifest.name}/{part}"
            )
            mlflow.log_input(dataset, context="training")
        for source in also:
            dataset = mlflow.data.from_pandas(rows, source=source, name=source)
            mlflow.log_input(dataset, context="training")
        fitted = model or LinearRegression().fit(rows[columns], rows["target"])
        if "signature" not in options:
            options["signature"] = infer_signature(rows[columns], fitted.predict(rows[columns]))
        mlflow.sklearn.log_model(fitted, name="model", pip_requirements=["scikit-learn"], **options)
    return str(run.info.run_id)


def entry_of(version: VersionRef) -> Any:
    entry = registry.version(version.name, version.version)
    assert entry is not None
    return entry


def test_a_run_becomes_a_challenger_and_goes_the_whole_way(name: str) -> None:
    manifest = snapshot(name)
    run_id = by_hand(manifest)
    version = register(run_id, name)
    assert registry.aliases(name) == {"challenger": version.version}
    assert version.snapshot_uri == manifest.uri
    entry = entry_of(version)
    assert entry.run_id == run_id
    assert entry.tags[tracking.STAGE] == "None"
    assert entry.tags["model_type"] == "sklearn"

    decision = gate(version)
    assert decision.verdict == "promote"
    recorded = ledger.find(f"decision:{run_id}")
    assert recorded is not None
    assert recorded.evidence["trained_on"] == "the run's dataset inputs"
    assert "Logged by hand" in mlflow.artifacts.load_text(f"runs:/{run_id}/decision.md")
    assert promote(build(decision), "register/1")["champion"] == version.version
    assert registry.aliases(name) == {"champion": version.version}
    assert tracking.client().get_run(run_id).info.status == "FINISHED"


def test_the_smoke_test_is_made_of_test_rows_and_kept_with_the_version(name: str) -> None:
    manifest = snapshot(name)
    version = register(by_hand(manifest), name)
    smoke_test = read_card(fetch(name, version.version)).smoke_test
    assert smoke_test is not None
    rows = read_part(manifest, "test")[FEATURES].head(5)
    assert smoke_test["inputs"]["columns"] == FEATURES
    assert smoke_test["inputs"]["data"] == rows.to_numpy().tolist()
    model = mlflow.sklearn.load_model(f"models:/{name}/{version.version}")
    assert smoke_test["predictions"] == model.predict(rows).tolist()


def test_the_smoke_test_keeps_tiny_numbers(name: str, tmp_path: Path) -> None:
    rows = load_diabetes(as_frame=True, scaled=False).frame
    rows["bmi"] *= 1.23456789012345e-11
    rows.to_csv(tmp_path / "tiny.csv", index=False)
    file = FILE.replace("sklearn://diabetes", (tmp_path / "tiny.csv").as_uri())
    (tmp_path / f"{name}.yaml").write_text(file)
    manifest = snapshot(name)
    version = register(by_hand(manifest), name)
    inputs = json.loads(entry_of(version).tags[tracking.SMOKE_TEST])["inputs"]
    assert inputs["data"] == read_part(manifest, "test")[FEATURES].head(5).to_numpy().tolist()


def test_a_second_registration_finds_the_version(name: str) -> None:
    run_id = by_hand(snapshot(name))
    first = register(run_id, name)
    assert check(run_id, name) == first
    assert register(run_id, name) == first
    assert list(registry.versions(name)) == [first.version]


def test_a_version_that_was_made_in_mlflow_gets_what_it_lacks(name: str) -> None:
    run_id = by_hand(snapshot(name))
    mlflow.register_model(f"runs:/{run_id}/model", name)
    version = register(run_id, name)
    assert version.version == 1
    assert {tracking.SNAPSHOT, tracking.PIPELINE, tracking.SMOKE_TEST} <= set(
        entry_of(version).tags
    )


def test_a_rejected_version_is_no_challenger_again(name: str) -> None:
    run_id = by_hand(snapshot(name))
    version = register(run_id, name)
    registry.reject(version)
    tracking.client().delete_registered_model_alias(name, tracking.CHALLENGER)
    register(run_id, name)
    assert registry.aliases(name) == {}


def test_a_model_of_some_of_the_columns_is_judged(name: str) -> None:
    decision = gate(register(by_hand(snapshot(name), columns=["bmi", "bp", "s5"]), name))
    assert decision.verdict == "promote"


def test_a_model_that_wants_integers_gets_them(name: str) -> None:
    manifest = snapshot(name)
    rows = read_part(manifest, "train")[FEATURES].astype({"age": "int64"})
    truth = read_part(manifest, "train")["target"]
    model = Ridge().fit(rows, truth)
    run_id = by_hand(manifest, model=model, signature=infer_signature(rows, truth.to_numpy()))
    version = register(run_id, name)
    test = json.loads(entry_of(version).tags[tracking.SMOKE_TEST])
    assert {type(row[0]) for row in test["inputs"]["data"]} == {int}
    assert gate(version).promote


class Doubled(PythonModel):
    """Predicts twice the body mass index."""

    def predict(self, context, model_input, params=None):  # noqa: ARG002 - MLflow's names
        return model_input["bmi"].to_numpy() * 2


def test_a_model_of_another_flavour_is_judged_and_loses(name: str) -> None:
    manifest = snapshot(name)
    rows = read_part(manifest, "train")[FEATURES]
    tracking.client()
    with mlflow.start_run(experiment_id=tracking.experiment("by hand")) as run:
        signature = infer_signature(rows, rows["bmi"].to_numpy() * 2)
        mlflow.pyfunc.log_model(
            name="model", python_model=Doubled(), signature=signature, pip_requirements=[]
        )
    version = register(run.info.run_id, name, snapshot=manifest.uri)
    decision = gate(version)
    assert not decision.promote
    recorded = ledger.find(f"decision:{run.info.run_id}")
    assert recorded is not None
    assert recorded.evidence["challenger_score"] > recorded.evidence["opponent_score"]


def test_the_training_data_is_never_guessed(name: str) -> None:
    run_id, manifest = by_hand(None), snapshot(name)
    with pytest.raises(UserError, match="Nobody knows which rows") as raised:
        register(run_id, name)
    assert "--snapshot" in raised.value.fix
    assert registry.versions(name) == {}
    version = register(run_id, name, snapshot=manifest.uri)
    assert "named when it was registered" in entry_of(version).tags[tracking.TRAINED_ON]


def test_a_run_that_was_trained_on_test_rows_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="trained on the test part"):
        register(by_hand(snapshot(name), part="test"), name)


def test_the_runs_inputs_override_the_named_snapshot(name: str, tmp_path: Path) -> None:
    manifest = snapshot(name)
    with pytest.raises(UserError, match="trained on the test part"):
        register(by_hand(manifest, part="test"), name, snapshot=manifest.uri)
    with pytest.raises(UserError, match="Nobody knows which rows"):
        register(by_hand(manifest, part="validation"), name)
    other = f"{name}_other"
    (tmp_path / f"{other}.yaml").write_text(FILE)
    with pytest.raises(UserError, match="must be the one that the run names"):
        register(by_hand(manifest), other, snapshot=snapshot(other).uri)


def test_a_validation_part_of_another_snapshot_is_not_taken_for_unseen(
    name: str, tmp_path: Path
) -> None:
    """Its rows may be test rows of the snapshot whose train part the run names."""
    first = snapshot(name)
    (tmp_path / f"{name}.yaml").write_text(f"{FILE}split: {{seed: 7}}\n")
    other = snapshot(name)
    unseen, seen = read_part(first, "test"), read_part(other, "validation")
    assert unseen[UNIT].isin(seen[UNIT]).any()
    run_id = by_hand(first, also=(other.parts["validation"],))
    for named_uri in (None, first.uri, other.uri):
        with pytest.raises(UserError, match="trained on parts of several snapshots") as raised:
            register(run_id, name, snapshot=named_uri)
        assert all(each.uri.rpartition("/")[0] in raised.value.why for each in (first, other))
    run_id = by_hand(other, part="validation")
    with pytest.raises(UserError, match="must be the one that the run names") as raised:
        register(run_id, name, snapshot=first.uri)
    assert other.uri in raised.value.fix
    assert registry.versions(name) == {}


def test_train_and_validation_part_of_a_snapshot_are_what_the_gate_leaves_out(name: str) -> None:
    manifest = snapshot(name)
    version = register(by_hand(manifest, also=(manifest.parts["validation"],)), name)
    assert version.snapshot_uri == manifest.uri


def test_one_verdict_promotes_one_version(name: str, tmp_path: Path) -> None:
    other = f"{name}_other"
    (tmp_path / f"{other}.yaml").write_text(FILE)
    run_id = by_hand(None)
    first, second = (register(run_id, each, snapshot=snapshot(each).uri) for each in (name, other))
    gate(first)
    with pytest.raises(ConflictError, match=f"was judged as {name} version 1, not as {other}"):
        gate(second)


def test_another_model_of_a_registered_run_is_refused(name: str) -> None:
    run_id = by_hand(snapshot(name))
    register(run_id, name)
    with pytest.raises(UserError, match=f"version 1 of {name} already, with another model"):
        register(run_id, name, model="m-0123")


def test_a_model_that_answers_with_a_column(name: str) -> None:
    manifest = snapshot(name)
    rows = read_part(manifest, "train")
    column = LinearRegression().fit(rows[FEATURES], rows[["target"]])
    assert gate(register(by_hand(manifest, model=column), name)).promote


def test_a_registration_that_was_cut_off_is_made_whole(name: str) -> None:
    run_id, client = by_hand(snapshot(name)), tracking.client()
    version = register(run_id, name)
    for tag in (tracking.PIPELINE, tracking.SMOKE_TEST, tracking.TRAINED_ON):
        client.delete_model_version_tag(name, str(version.version), tag)
    assert register(run_id, name) == version
    assert {tracking.PIPELINE, tracking.SMOKE_TEST, tracking.TRAINED_ON} <= entry_of(
        version
    ).tags.keys()


def test_a_run_that_was_judged_for_another_pipeline_is_refused(name: str, tmp_path: Path) -> None:
    other = f"{name}_other"
    (tmp_path / f"{other}.yaml").write_text(FILE)
    run_id = by_hand(snapshot(name))
    gate(register(run_id, name))
    with pytest.raises(UserError, match=f"was judged as {name} version 1"):
        register(run_id, other)


def test_several_models_need_a_choice(name: str) -> None:
    manifest = snapshot(name)
    run_id = by_hand(manifest)
    rows = read_part(manifest, "train")
    with mlflow.start_run(run_id=run_id):
        model = Ridge().fit(rows[FEATURES], rows["target"])
        second = mlflow.sklearn.log_model(
            model,
            name="ridge",
            signature=infer_signature(rows[FEATURES], rows["target"].to_numpy()),
            pip_requirements=["scikit-learn"],
        )
    with pytest.raises(UserError, match="logged 2 models") as raised:
        register(run_id, name)
    assert second.model_id in raised.value.what
    version = register(run_id, name, model=second.model_id)
    assert entry_of(version).source == f"models:/{second.model_id}"


def test_errors_name_what_a_run_lacks(name: str) -> None:
    manifest = snapshot(name)
    with mlflow.start_run(experiment_id=tracking.experiment("by hand")) as empty:
        mlflow.log_metric("rmse", 1.0)
    renamed = read_part(manifest, "train").rename(columns={"bmi": "bmi_"})
    strange = LinearRegression().fit(renamed[["age", "bmi_"]], renamed["target"])
    signature = infer_signature(renamed[["age", "bmi_"]], renamed["target"].to_numpy())
    table = renamed[["age", "sex"]].to_numpy()
    tensors = infer_signature(table, renamed["target"].to_numpy())
    for run_id, what, fix in (
        ("0" * 32, "There is no run", "32 characters"),
        ("nonsense", "There is no run", "32 characters"),
        (empty.info.run_id, "has no logged model", "log_model"),
        (by_hand(manifest, signature=False), "has no signature", "infer_signature"),
        (by_hand(manifest, model=strange, signature=signature), "bmi_", "'bmi'"),
        (by_hand(manifest, signature=tensors), "must name columns", "pandas"),
    ):
        with pytest.raises(UserError) as raised:
            register(run_id, name)
        assert what in raised.value.what
        assert fix in raised.value.fix
    with pytest.raises(UserError, match="There is no pipeline") as raised:
        register(empty.info.run_id, f"{name}x")
    assert name in raised.value.fix


def test_a_model_that_cannot_predict_is_refused(name: str) -> None:
    manifest = snapshot(name)
    rows = read_part(manifest, "train")
    few = LinearRegression().fit(rows[["age"]], rows["target"])  # another signature than its own
    run_id = by_hand(
        manifest, model=few, signature=infer_signature(rows[FEATURES], rows["target"].to_numpy())
    )
    with pytest.raises(UserError, match="cannot predict rows"):
        register(run_id, name)
    assert registry.versions(name) == {}
