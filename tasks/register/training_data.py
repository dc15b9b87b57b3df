"""Which snapshot a model that was logged by hand was trained on.

The gate compares on rows that the model has not seen, so this must be known. Either the run says it
in its dataset inputs, which are parts of a snapshot of the pipeline; or whoever registers the run
names the snapshot and answers for it, which is recorded. It is never guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow.entities import Run

from tasks.base.errors import UserError
from tasks.clients import tracking
from tasks.pipeline.schema import Pipeline
from tasks.records.snapshots import Manifest, matching_manifest

_PART = re.compile(r"(?P<folder>s3://.+)/(?P<part>train|validation|test)\.parquet")
_CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class _Input:
    """A part of a snapshot among a run's dataset inputs."""

    folder: str
    part: str
    context: str


def training_snapshot(pipeline: Pipeline, run: Run, named_uri: str | None) -> tuple[Manifest, str]:
    """The snapshot whose train and validation parts hold all training rows, and who says so.

    Raises:
        UserError: Neither the run nor `named_uri` says it, the two differ, or the run names test
            rows or several snapshots.
    """
    inputs = [entry for entry in _inputs(run) if entry.context.startswith("train")]
    folder = _folder(run, inputs)
    if named_uri:
        if folder is not None and folder != named_uri.removesuffix("/manifest.json"):
            raise UserError(
                f"The 'snapshot' must be the one that the run names. Got {named_uri!r} instead.",
                why="Its dataset inputs say what it was trained on.",
                fix=f"Name that one: --snapshot {folder}/manifest.json",
            )
        return matching_manifest(
            pipeline, named_uri
        ), "the snapshot that was named when it was registered"
    if any(entry.part == "train" for entry in inputs):
        return matching_manifest(pipeline, f"{folder}/manifest.json"), "the run's dataset inputs"
    newest = tracking.find_run(pipeline.name, tracking.NAME, pipeline.name)
    example_uri = newest.data.tags[tracking.SNAPSHOT] if newest else "s3://…/manifest.json"
    raise UserError(
        f"Nobody knows which rows the model of run {run.info.run_id} was trained on.",
        why="None of its dataset inputs is a snapshot's train part with a context that starts with "
        "'train'.",
        fix="Log the training part with mlflow.log_input. Or, if the model saw no row of the test "
        f"part, answer for it: --snapshot {example_uri}",
    )


def _folder(run: Run, inputs: Sequence[_Input]) -> str | None:
    """The folder of the one snapshot that the inputs belong to; None without inputs."""
    for entry in inputs:
        if entry.part == "test":
            raise UserError(
                f"The run {run.info.run_id} was trained on the test part of a snapshot.",
                why=f"Its dataset inputs name {entry.folder}/test.parquet as {entry.context}.",
                fix="Train it on the parts train and validation.",
            )
    folders = {entry.folder for entry in inputs}
    if len(folders) > 1:  # test rows of one may be training rows of another
        raise UserError(
            f"The run {run.info.run_id} was trained on parts of several snapshots.",
            why=f"Its dataset inputs name {', '.join(sorted(folders))}.",
            fix="Train it on the parts train and validation of a single snapshot.",
        )
    return next(iter(folders), None)


def _inputs(run: Run) -> list[_Input]:
    """The snapshot parts among the run's dataset inputs."""
    parts = []
    for entry in run.inputs.dataset_inputs if run.inputs else ():
        try:
            uri = str(json.loads(entry.dataset.source).get("uri", ""))
        except (ValueError, AttributeError):  # a source can be any text
            continue
        if match := _PART.fullmatch(uri):
            context = next((tag.value for tag in entry.tags if tag.key == _CONTEXT), "")
            parts.append(_Input(match["folder"], match["part"], context))
    return parts
