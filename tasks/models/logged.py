"""Logged models, found by run, version or alias, and the columns that they take."""

from __future__ import annotations

import re

import mlflow
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.models import ModelSignature

from tasks.base.errors import UserError
from tasks.base.problems import did_you_mean
from tasks.clients import tracking
from tasks.records import registry

RUN_ID = re.compile("[0-9a-f]{32}")


def run(run_id: str) -> Run:
    """A run that is there and not deleted.

    Raises:
        UserError: There is none.
    """
    found = tracking.existing(tracking.client().get_run, run_id)
    if found is None or found.info.lifecycle_stage != "active":
        raise UserError(
            f"There is no run {run_id!r} in MLflow.",
            fix="Copy the run's id from its page: 32 characters.",
        )
    return found


def of_run(logged_by: Run, model_id: str | None = None) -> LoggedModel:
    """The model that a run logged; of several the one with this id.

    Raises:
        UserError: It logged none, or several and no id says which.
    """
    client, run_id = tracking.client(), logged_by.info.run_id
    outputs = logged_by.outputs.model_outputs if logged_by.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    ready = {one.model_id: one for one in models if one.status == LoggedModelStatus.READY}
    if not ready:
        raise UserError(
            f"The run {run_id} has no logged model.",
            fix="Log one in it, e.g. mlflow.sklearn.log_model(model, name='model', signature=…).",
        )
    if model_id is None and len(ready) == 1:
        return next(iter(ready.values()))
    if model_id in ready:
        return ready[model_id]
    shown = ", ".join(f"{one.model_id} ({one.name})" for one in ready.values())
    raise UserError(f"The run {run_id} logged {len(ready)} models: {shown}.", fix="--model ID")


def signature(uri: str) -> ModelSignature | None:
    """What the model says of its input and output."""
    tracking.client()
    found: ModelSignature | None = mlflow.models.get_model_info(uri).signature
    return found


def columns(uri: str) -> tuple[str, ...]:
    """Names of the columns that the model takes; none where it does not name them."""
    found = signature(uri)
    if found is None or found.inputs is None or not found.inputs.has_input_names():
        return ()
    return tuple(map(str, found.inputs.input_names()))


def find(name: str, wanted: str) -> str:
    """URI of a model: a version of `name` by number or alias, or what a run logged, by its id.

    Raises:
        UserError: There is none.
    """
    if RUN_ID.fullmatch(wanted):
        return str(of_run(run(wanted)).model_uri)
    known = registry.versions(name)
    if wanted.isdigit() and int(wanted) in known:
        return f"models:/{name}/{int(wanted)}"
    marks = registry.aliases(name)
    if wanted in marks:
        return f"models:/{name}/{marks[wanted]}"
    aliases = ", ".join(f"{alias} ({version})" for alias, version in marks.items())
    raise UserError(
        f"{name} has no version or alias {wanted!r}.",
        why=f"Versions: {', '.join(map(str, known)) or 'none'}; aliases: {aliases or 'none'}.",
        fix=did_you_mean(wanted, marks),
    )
