"""A run that was logged by hand becomes a challenger: a version with all that the chain needs."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from io import StringIO
from typing import Any

import mlflow
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow.types import Schema

from tasks.base.errors import ConflictError, UserError
from tasks.base.problems import did_you_mean
from tasks.base.refs import VersionRef
from tasks.clients import database, tracking
from tasks.data import json_values
from tasks.models import flavors, logged
from tasks.pipeline.load import load
from tasks.pipeline.schema import Pipeline
from tasks.records import ledger, registry, resolved
from tasks.records.snapshots import Manifest, read_part
from tasks.register.training_data import training_snapshot

log = logging.getLogger(__name__)

EXAMPLE_ROWS, MANY_COLUMNS = 5, 200
"""Rows of the smoke test; a table with more columns gives one row, because a tag must hold it."""


@dataclass(frozen=True)
class Candidate:
    """A logged model that can become a version of a pipeline."""

    pipeline: Pipeline
    run: Run
    model: LoggedModel
    columns: Schema
    """Of the model's input."""
    manifest: Manifest
    trained_on: str
    """Who says that the manifest's snapshot holds the training rows."""


def check(
    run_id: str, name: str, *, snapshot: str | None = None, model: str | None = None
) -> Candidate | VersionRef:
    """Everything that a registration needs, or the run's version if it is registered already.

    Args:
        run_id: The run that logged the model.
        name: The pipeline.
        snapshot: URI of the manifest of the snapshot whose train and validation parts hold all rows
            that the model was trained on. None: the run's dataset inputs say it.
        model: Id of the logged model, if the run has several.

    Raises:
        UserError: With what is missing, and how to mend it.
    """
    pipeline = load(name)
    decision = ledger.find(f"decision:{run_id}")
    run = logged.get_run(run_id)
    if decision is not None and decision.pipeline != name:
        raise UserError(
            f"The run {run_id} was judged as {decision.pipeline} version {decision.to_version}.",
            why="A run has one decision.",
            fix=f"Log the model in a run of its own for {name}.",
        )
    entry = registry.registered(name, run_id)
    if entry is not None and model not in (None, entry.model_id):
        raise UserError(
            f"The run {run_id} is version {entry.version} of {name} already, with another model.",
            why=f"That version is of model {entry.model_id}.",
            fix=f"Log the model {model} in a run of its own.",
        )
    # The tag that `_register` sets last: without it others may be missing.
    if entry is not None and {tracking.SNAPSHOT, tracking.PIPELINE} <= entry.tags.keys():
        return _reference(entry, entry.tags[tracking.PIPELINE], entry.tags[tracking.SNAPSHOT])
    logged_model = logged.model_of_run(
        run, model or (entry.model_id if entry is not None else None)
    )
    columns = _columns(logged_model, pipeline)
    manifest, trained_on = training_snapshot(pipeline, run, snapshot)
    return Candidate(pipeline, run, logged_model, columns, manifest, trained_on)


def register(
    run_id: str, name: str, *, snapshot: str | None = None, model: str | None = None
) -> VersionRef:
    """Make the run's model a version of the pipeline and its challenger.

    A repeated call finds the version that the first one made.

    Raises:
        UserError: See `check`; or the model cannot predict rows of the pipeline's test part.
    """
    with database.locked(f"register/{name}"):
        checked = check(run_id, name, snapshot=snapshot, model=model)
        version = checked if isinstance(checked, VersionRef) else _register(checked)
        _challenge(version)
    return version


def _reference(entry: ModelVersion, pipeline_uri: str, snapshot_uri: str) -> VersionRef:
    return VersionRef(
        name=entry.name,
        run_id=entry.run_id,
        pipeline_uri=pipeline_uri,
        snapshot_uri=snapshot_uri,
        version=int(entry.version),
    )


def _columns(model: LoggedModel, pipeline: Pipeline) -> Schema:
    """The model's input columns, all of which must be features of the pipeline."""
    signature = logged.signature(model.model_uri)
    if signature is None or signature.inputs is None:
        raise UserError(
            f"The model {model.name!r} of run {model.source_run_id} has no signature.",
            why="Without a signature nobody knows what to send to its endpoint.",
            fix="Log it with signature=infer_signature(rows, model.predict(rows)).",
        )
    schema: Schema = signature.inputs
    if not schema.has_input_names() or schema.is_tensor_spec():
        raise UserError(
            f"The signature of model {model.name!r} must name columns. Got tensors instead.",
            fix="Infer it from a pandas table: infer_signature(rows, model.predict(rows)).",
        )
    features = pipeline.feature_names
    unknown = [name for name in map(str, schema.input_names()) if name not in features]
    if unknown:
        near = " ".join(filter(None, (did_you_mean(name, features) for name in unknown)))
        raise UserError(
            f"The model {model.name!r} takes columns that {pipeline.name} does not have: "
            f"{', '.join(unknown)}.",
            why=f"Features of {pipeline.name}: {', '.join(features)}.",
            fix=near or "Train it on some or all of these columns.",
        )
    return schema


def _register(candidate: Candidate) -> VersionRef:
    pipeline, run_id = candidate.pipeline, candidate.run.info.run_id
    tags = _tags(candidate)
    entry = registry.register(
        pipeline.name,
        run_id,
        candidate.model.model_uri,
        description=pipeline.description,
        tags=tags,
    )
    log.info("registered run %s as %s version %s", run_id, pipeline.name, entry.version)
    return _reference(entry, tags[tracking.PIPELINE], tags[tracking.SNAPSHOT])


def _tags(candidate: Candidate) -> dict[str, str]:
    """Tags of the version. `PIPELINE` is last: with it a registration is complete."""
    pipeline, manifest = candidate.pipeline, candidate.manifest
    info = mlflow.models.get_model_info(candidate.model.model_uri)
    tags = pipeline.tags | {
        "author": candidate.run.data.tags.get("mlflow.user", "unknown"),
        "description": pipeline.description,
        "notes": f"logged by hand in run {candidate.run.info.run_id}",
        "data_version": manifest.address,
        "model_type": ", ".join(sorted(set(info.flavors) - {"python_function"})) or "pyfunc",
        tracking.SNAPSHOT: manifest.uri,
        tracking.TRAINED_ON: candidate.trained_on,
        tracking.STAGE: "None",
    }
    if "smoke_test" not in (info.metadata or {}):
        tags[tracking.SMOKE_TEST] = json.dumps(_smoke_test(candidate))
    return tags | {tracking.PIPELINE: resolved.write(pipeline)}


def _smoke_test(candidate: Candidate) -> dict[str, Any]:
    """Some test rows and the model's predictions for them, in its server's format.

    Raises:
        UserError: The model cannot predict them.
    """
    names = [str(name) for name in candidate.columns.input_names()]
    count = EXAMPLE_ROWS if len(names) <= MANY_COLUMNS else 1
    try:
        test = read_part(candidate.manifest, "test")[names]
        complete = test.dropna()
        examples = (test if complete.empty else complete).head(count)
        rows = flavors.cast(examples, candidate.columns)
        text = StringIO()
        scoring_server.predictions_to_json(
            mlflow.pyfunc.load_model(candidate.model.model_uri).predict(rows), text
        )
    except (MlflowException, ValueError, TypeError, LookupError, ArithmeticError) as err:
        raise UserError(
            f"The model of run {candidate.run.info.run_id} cannot predict rows of "
            f"{candidate.manifest.name}.",
            why=f"{type(err).__name__}: {err}",
        ) from err
    return {
        "inputs": json_values.as_split(rows),
        "predictions": json.loads(text.getvalue())["predictions"],
        "tolerance": flavors.FLOAT32_TOLERANCE,  # the model's precision is unknown
    }


def _challenge(version: VersionRef) -> None:
    """Make the version challenger, unless it was promoted or rejected."""
    entry = registry.version(version.name, version.version)
    if entry is None:
        raise ConflictError(f"{version.name} version {version.version} was deleted meanwhile.")
    promoted = ledger.find(f"moved:promote:{version.run_id}:{version.version}") is not None
    if not promoted and registry.passed(entry) is not False:
        tracking.client().set_registered_model_alias(
            version.name, tracking.CHALLENGER, str(version.version)
        )
