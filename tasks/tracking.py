"""The MLflow client and the names of what we write there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

from tasks.commands import typed
from tasks.errors import UnavailableError
from tasks.refs import RunRef
from tasks.settings import settings

DAG_RUN = "mlops.dag_run"
"""Tag of a parent run: the DAG run that made it, by which a later try finds it again."""
SNAPSHOT = "snapshot"
"""Tag of a parent run: URI of the snapshot's manifest."""
NAME = "mlops.name"
"""Tag of a parent run: the pipeline's name."""
PIPELINE = "mlops.pipeline"
"""Tag of a parent run: URI of the resolved pipeline."""
INPUTS = "mlops.inputs"
"""Tag of a parent run: digest of snapshot, pipeline file and code."""
BEST = "mlops.best"
"""Tag of a parent run: the chosen trial, as JSON with `trial` and (nested) `params`."""
TRIAL = "mlops.trial"
"""Tag of a child run: the trial's number."""
PARENT = "mlflow.parentRunId"

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
"""Aliases of a registered model."""
STAGE = "stage"
"""Tag of a version: None, Staging, Production or Archived."""
VERDICT = "decision"
"""Tag of a parent run and of a version: the gate's verdict."""


@contextmanager
def answering() -> Iterator[None]:
    """MLflow's errors as `UnavailableError`."""
    try:
        yield
    except MlflowException as err:
        raise UnavailableError("MLflow does not answer.", why=str(err)) from err


@lru_cache(maxsize=1)
def client() -> MlflowClient:
    """The MLflow client of this process; mlflow's module functions then use the same server."""
    if not settings().tracking_uri:
        raise UnavailableError("The stack is not up.", fix=f"Start it: {typed('up')}")
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    mlflow.set_tracking_uri(settings().tracking_uri)
    return MlflowClient(settings().tracking_uri)


def experiment(name: str) -> str:
    """Id of the pipeline's experiment, made when there is none."""
    found = client().get_experiment_by_name(name)
    if found is None:
        try:
            return str(client().create_experiment(name))
        except MlflowException as err:
            found = client().get_experiment_by_name(name)  # another process made it first
            if found is None:
                raise err from None
    return str(found.experiment_id)


def find_run(name: str, tag: str, value: str) -> Run | None:
    """The newest run of the pipeline's experiment with this tag."""
    found = client().get_experiment_by_name(name)
    if found is None:
        return None
    runs = client().search_runs(
        [found.experiment_id],
        f"tags.`{tag}` = '{value}'",
        max_results=1,
        order_by=["start_time DESC"],
    )
    return runs[0] if runs else None


def reference(run: Run) -> RunRef:
    """The reference of a parent run, from its tags."""
    return RunRef(
        name=run.data.tags[NAME],
        run_id=run.info.run_id,
        pipeline=run.data.tags[PIPELINE],
        snapshot=run.data.tags[SNAPSHOT],
    )


def alias_version(name: str, alias: str) -> int | None:
    """Number of the version that carries the alias."""
    try:
        return int(client().get_model_version_by_alias(name, alias).version)
    except MlflowException as err:
        missing = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}
        if err.error_code in missing:
            return None
        raise
