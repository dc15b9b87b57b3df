"""A run that a person logged by hand becomes a challenger: a version with all that the chain needs.

What matters most is what the model was trained on: the gate compares on rows that it has not seen.
The run says it by its dataset inputs, parts of a snapshot of the pipeline; or who registers it says
it by naming the snapshot, and answers for it: that is on record. Nobody guesses.
"""

from __future__ import annotations

import json
import logging
import re
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
from tasks.records.snapshots import Manifest, matching_manifest, read_part

log = logging.getLogger(__name__)

EXAMPLE_ROWS, MANY_COLUMNS = 5, 200
"""Rows of the smoke test; of a wide table one is enough, as a tag has to hold them."""
_PART = re.compile(r"(?P<folder>s3://.+)/(?P<part>train|validation|test)\.parquet")
_CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class Candidate:
    """A logged model that may become a version of a pipeline, and how that is known."""

    pipeline: Pipeline
    run: Run
    model: LoggedModel
    columns: Schema
    """Of the model's input."""
    manifest: Manifest
    trained_on: str


@dataclass(frozen=True)
class _Input:
    """A part of a snapshot that a run names among its dataset inputs."""

    folder: str
    part: str
    context: str


def check(
    run_id: str, name: str, *, snapshot: str | None = None, model: str | None = None
) -> Candidate | VersionRef:
    """Everything that a registration needs, or the version that there is of the run.

    Args:
        run_id: The run that logged the model.
        name: The pipeline.
        snapshot: URI of the manifest of the snapshot whose train and validation parts hold all rows
            that the model was trained on; none: the run's dataset inputs say it.
        model: Id of the logged model, where the run has several.

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
    entry = _registered(run_id, name)
    if entry is not None and model not in (None, entry.model_id):
        raise UserError(
            f"The run {run_id} is version {entry.version} of {name} already, with another model.",
            why=f"That version is of model {entry.model_id}.",
            fix=f"Log the model {model} in a run of its own.",
        )
    # The last of the tags that `_register` sets: without it some may be missing.
    if entry is not None and {tracking.SNAPSHOT, tracking.PIPELINE} <= entry.tags.keys():
        return _reference(name, run_id, entry)
    found = logged.model_of_run(run, model or (entry.model_id if entry is not None else None))
    columns = _columns(found, pipeline)
    manifest, trained_on = _snapshot(pipeline, run, snapshot)
    return Candidate(pipeline, run, found, columns, manifest, trained_on)


def register(
    run_id: str, name: str, *, snapshot: str | None = None, model: str | None = None
) -> VersionRef:
    """Make the run's model a version of the pipeline, and challenger; repeated, it finds the first.

    Raises:
        UserError: See `check`; or the model cannot predict rows of the pipeline's test part.
    """
    with database.locked(f"register/{name}"):
        found = check(run_id, name, snapshot=snapshot, model=model)
        version = found if isinstance(found, VersionRef) else _register(found)
        _challenge(version)
    return version


def _registered(run_id: str, name: str) -> ModelVersion | None:
    """The newest version of the pipeline that the run made."""
    found = tracking.client().search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return max(found, key=lambda entry: int(entry.version), default=None)


def _reference(name: str, run_id: str, entry: ModelVersion) -> VersionRef:
    return VersionRef(
        name=name,
        run_id=run_id,
        pipeline=entry.tags[tracking.PIPELINE],
        snapshot=entry.tags[tracking.SNAPSHOT],
        version=int(entry.version),
    )


def _columns(model: LoggedModel, pipeline: Pipeline) -> Schema:
    """The model's input, if it is made of the pipeline's features."""
    signature = logged.signature(model.model_uri)
    if signature is None or signature.inputs is None:
        raise UserError(
            f"The model {model.name!r} of run {model.source_run_id} has no signature.",
            why="Without one nobody knows what its endpoint must be sent.",
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
            f"The model {model.name!r} takes columns that {pipeline.name} has not: "
            f"{', '.join(unknown)}.",
            why=f"Features of {pipeline.name}: {', '.join(features)}.",
            fix=near or "Train it on some or all of these columns.",
        )
    return schema


def _snapshot(pipeline: Pipeline, run: Run, said: str | None) -> tuple[Manifest, str]:
    """The snapshot that holds the model's training rows apart from its test rows, and who says so.

    Raises:
        UserError: Nobody says it, or the run says that there is none.
    """
    trained = [one for one in _inputs(run) if one.context.startswith("train")]
    for one in trained:
        if one.part == "test":
            raise UserError(
                f"The run {run.info.run_id} was trained on the test part of a snapshot.",
                why=f"Its dataset inputs name {one.folder}/test.parquet as {one.context}.",
                fix="Train it on the parts train and validation.",
            )
    snapshots = {one.folder for one in trained}
    if len(snapshots) > 1:  # test rows of one may be training rows of another
        raise UserError(
            f"The run {run.info.run_id} was trained on parts of several snapshots.",
            why=f"Its dataset inputs name {', '.join(sorted(snapshots))}.",
            fix="Train it on the parts train and validation of one.",
        )
    if said:
        folder = said.removesuffix("/manifest.json")
        if snapshots - {folder}:
            raise UserError(
                f"The 'snapshot' must be the one that the run names. Got {said!r} instead.",
                why="Its dataset inputs say what it was trained on.",
                fix=f"Name that one: --snapshot {snapshots.pop()}/manifest.json",
            )
        return matching_manifest(
            pipeline, said
        ), "the snapshot that was named when it was registered"
    if any(one.part == "train" for one in trained):
        return matching_manifest(
            pipeline, f"{snapshots.pop()}/manifest.json"
        ), "the run's dataset inputs"
    newest = tracking.find_run(pipeline.name, tracking.NAME, pipeline.name)
    uri = newest.data.tags[tracking.SNAPSHOT] if newest else "s3://…/manifest.json"
    raise UserError(
        f"Nobody knows which rows the model of run {run.info.run_id} was trained on.",
        why="Its dataset inputs name no snapshot's part train with a context that begins with "
        "train.",
        fix="Log the part that it was trained on with mlflow.log_input, or, if it saw no row of "
        f"the test part, answer for it: --snapshot {uri}",
    )


def _inputs(run: Run) -> list[_Input]:
    """The snapshot parts among the run's dataset inputs."""
    found = []
    for entry in run.inputs.dataset_inputs if run.inputs else ():
        try:
            uri = str(json.loads(entry.dataset.source).get("uri", ""))
        except (ValueError, AttributeError):  # a source is any text
            continue
        if match := _PART.fullmatch(uri):
            context = next((tag.value for tag in entry.tags if tag.key == _CONTEXT), "")
            found.append(_Input(match["folder"], match["part"], context))
    return found


def _register(found: Candidate) -> VersionRef:
    client, name, run_id = tracking.client(), found.pipeline.name, found.run.info.run_id
    tags = _tags(found)
    entry = _registered(run_id, name)
    if entry is None:
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, description=found.pipeline.description)
        entry = client.create_model_version(
            name,
            source=found.model.model_uri,
            run_id=run_id,
            description=found.pipeline.description,
            tags=tags,
            model_id=found.model.model_id,
        )
    else:  # by MLflow's own means, without what the chain needs
        for key in sorted(tags, key=lambda key: key == tracking.PIPELINE):  # that one last
            client.set_model_version_tag(name, entry.version, key, tags[key])
    if entry.status != "READY":
        raise UserError(f"MLflow did not accept the version: {entry.status_message}")
    log.info("registered run %s as %s version %s", run_id, name, entry.version)
    return VersionRef(
        name=name,
        run_id=run_id,
        pipeline=tags[tracking.PIPELINE],
        snapshot=found.manifest.uri,
        version=int(entry.version),
    )


def _tags(found: Candidate) -> dict[str, str]:
    info = mlflow.models.get_model_info(found.model.model_uri)
    tags = found.pipeline.tags | {
        "author": found.run.data.tags.get("mlflow.user", "unknown"),
        "description": found.pipeline.description,
        "notes": f"logged by hand in run {found.run.info.run_id}",
        "data_version": found.manifest.address,
        "model_type": ", ".join(sorted(set(info.flavors) - {"python_function"})) or "pyfunc",
        tracking.SNAPSHOT: found.manifest.uri,
        tracking.PIPELINE: resolved.write(found.pipeline),
        tracking.TRAINED_ON: found.trained_on,
        tracking.STAGE: "None",
    }
    if "smoke_test" not in (info.metadata or {}):
        tags[tracking.SMOKE_TEST] = json.dumps(_smoke_test(found))
    return tags


def _smoke_test(found: Candidate) -> dict[str, Any]:
    """Some test rows and what the model says to them, as its server will.

    Raises:
        UserError: The model cannot predict them.
    """
    names = [str(name) for name in found.columns.input_names()]
    count = EXAMPLE_ROWS if len(names) <= MANY_COLUMNS else 1
    try:
        test = read_part(found.manifest, "test")[names]
        whole = test.dropna()
        rows = flavors.cast((test if whole.empty else whole).head(count), found.columns)
        text = StringIO()
        scoring_server.predictions_to_json(
            mlflow.pyfunc.load_model(found.model.model_uri).predict(rows), text
        )
    except (MlflowException, ValueError, TypeError, LookupError, ArithmeticError) as err:
        run_id = found.run.info.run_id
        raise UserError(
            f"The model of run {run_id} cannot predict rows of {found.manifest.name}.",
            why=f"{type(err).__name__}: {err}",
        ) from err
    return {
        "inputs": json_values.as_split(rows),
        "predictions": json.loads(text.getvalue())["predictions"],
        "tolerance": flavors.FLOAT32_TOLERANCE,  # nobody knows how exactly it sums
    }


def _challenge(version: VersionRef) -> None:
    """Make the version challenger, unless it is champion or was turned down."""
    entry = registry.version(version.name, version.version)
    if entry is None:
        raise ConflictError(f"{version.name} version {version.version} was deleted meanwhile.")
    promoted = ledger.find(f"moved:promote:{version.run_id}:{version.version}") is not None
    if not promoted and registry.passed(entry) is not False:
        tracking.client().set_registered_model_alias(
            version.name, tracking.CHALLENGER, str(version.version)
        )
