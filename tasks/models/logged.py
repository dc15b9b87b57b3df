"""Looks logged models up by run, version or alias, and says which columns they take."""

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


def get_run(run_id: str) -> Run:
    """A run that is not deleted.

    Raises:
        UserError: There is no such run.
    """
    is_id = RUN_ID.fullmatch(run_id)
    run = tracking.existing(tracking.client().get_run, run_id) if is_id else None
    if run is None or run.info.lifecycle_stage != "active":
        raise UserError(
            f"There is no run {run_id!r} in MLflow.",
            fix="Copy the run's id from its page: 32 characters.",
        )
    return run


def model_of_run(run: Run, model_id: str | None = None) -> LoggedModel:
    """The model that a run logged; of several, the one with this id.

    Raises:
        UserError: The run logged no model, or several and not this one.
    """
    client, run_id = tracking.client(), run.info.run_id
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    ready = {model.model_id: model for model in models if model.status == LoggedModelStatus.READY}
    if not ready:
        raise UserError(
            f"The run {run_id} has no logged model.",
            fix="Log one in it, e.g. mlflow.sklearn.log_model(model, name='model', signature=…).",
        )
    if model_id is None and len(ready) == 1:
        return next(iter(ready.values()))
    if model_id in ready:
        return ready[model_id]
    choices = ", ".join(f"{model.model_id} ({model.name})" for model in ready.values())
    raise UserError(
        f"The run {run_id} logged {len(ready)} models: {choices}.", fix="Add --model ID."
    )


def signature(model_uri: str) -> ModelSignature | None:
    """The schemas of the model's input and output, if it was logged with them."""
    tracking.client()
    signature: ModelSignature | None = mlflow.models.get_model_info(model_uri).signature
    return signature


def input_columns(model_uri: str) -> tuple[str, ...]:
    """Names of the columns that the model takes; empty if it does not name them."""
    logged = signature(model_uri)
    if logged is None or logged.inputs is None or not logged.inputs.has_input_names():
        return ()
    return tuple(map(str, logged.inputs.input_names()))


def find_model_uri(name: str, reference: str) -> str:
    """URI of a model: a version of `name` by number or alias, or the model of a run by its id.

    Raises:
        UserError: There is no such model.
    """
    if RUN_ID.fullmatch(reference):
        return str(model_of_run(get_run(reference)).model_uri)
    versions = registry.versions(name)
    if reference.isdigit() and int(reference) in versions:
        return f"models:/{name}/{int(reference)}"
    aliases = registry.aliases(name)
    if reference in aliases:
        return f"models:/{name}/{aliases[reference]}"
    listed = ", ".join(f"{alias} ({version})" for alias, version in aliases.items())
    raise UserError(
        f"{name} has no version or alias {reference!r}.",
        why=f"Versions: {', '.join(map(str, versions)) or 'none'}; aliases: {listed or 'none'}.",
        fix=did_you_mean(reference, aliases),
    )
