"""The MLflow client, and the names of the tags that we write."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_LOGGING_LEVEL,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.entities import PagedList

from tasks.base.commands import typed
from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.base.settings import settings

DAG_RUN = "mlops.dag_run"
"""Tag of a parent run: the DAG run that made it. A retry finds the run by it."""
SNAPSHOT = "snapshot"
"""Tag of a parent run: URI of the snapshot's manifest."""
NAME = "mlops.name"
"""Tag of a parent run: the pipeline's name."""
PIPELINE = "mlops.pipeline"
"""Tag of a parent run: URI of the resolved pipeline."""
INPUTS = "mlops.inputs"
"""Tag of a parent run: digest of snapshot, pipeline file and code."""
UNSEEN = "unseen_categories"
"""Tag of a parent run: JSON; for each part, the rows with a category that training rows lack."""
BEST = "mlops.best"
"""Tag of a parent run: JSON of the chosen trial: `trial`, nested `params`, and `chosen`, the values
that its validation rows decided."""
TRIAL = "mlops.trial"
"""Tag of a child run: the trial's number."""
PARENT = "mlflow.parentRunId"
RUN = "mlops.run"
"""Tag of the run that `mlflow run` makes for a call: the parent run that the call worked on."""

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
"""Aliases of a registered model."""
STAGE = "stage"
"""Tag of a version: None, Staging, Production or Archived."""
VERDICT = "decision"
"""Tag of a parent run and of a version: the gate's verdict."""
TRAINED_ON = "mlops.trained_on"
"""Tag of a version that was logged by hand: who says what it was trained on."""
SMOKE_TEST = "mlops.smoke_test"
"""Tag of a version whose model has no smoke test of its own: JSON of `inputs` and `predictions`."""

_FINAL = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def answering() -> Iterator[None]:
    """Turn MLflow's errors into `UnavailableError`."""
    try:
        yield
    except MlflowException as err:
        raise UnavailableError(
            "MLflow does not answer.",
            why=str(err),
            fix=f"Look with {typed('status')}, start the stack with {typed('up')}.",
        ) from err


def is_final(err: MlflowException) -> bool:
    """Whether another try would fail as well: the thing does not exist, or a value is invalid."""
    return err.error_code in _FINAL


def existing(ask: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """What `ask` returns, or None if MLflow answers that it does not exist."""
    try:
        return ask(*arguments, **options)
    except MlflowException as err:
        if err.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise


def every(search: Callable[..., PagedList[T]], *arguments: Any, **options: Any) -> list[T]:
    """All results of a search that MLflow answers in pages."""
    results: list[T] = []
    token = None
    while True:
        page = search(*arguments, page_token=token, **options)
        results += page
        token = page.token
        if not token:
            return results


@contextmanager
def impatient() -> Iterator[None]:
    """Give up early on an MLflow server that does not answer; the caller asks again later."""
    limits: dict[Any, Any] = {
        MLFLOW_HTTP_REQUEST_TIMEOUT: 10,  # 120 s by default
        MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1,  # 7: minutes in all
    }
    before = {variable: variable.get_raw() for variable in limits}
    for variable, value in limits.items():
        variable.set(value)
    try:
        yield
    finally:
        for variable, value in before.items():
            variable.unset() if value is None else variable.set(value)


@contextmanager
def without_hints() -> Iterator[None]:
    """Silence the hint that integer columns cannot hold nulls: the pipeline file says which may."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer", UserWarning)
        yield


@lru_cache(maxsize=1)
def client() -> MlflowClient:
    """The MLflow client of this process; mlflow's module functions then use the same server."""
    if not settings().tracking_uri:
        raise UnavailableError("The stack is not up.", fix=f"Start it: {typed('up')}")
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    if not MLFLOW_LOGGING_LEVEL.is_set():
        # MLflow logs to standard error, and Airflow shows every line there as an error.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(settings().tracking_uri)
    return MlflowClient(settings().tracking_uri)


def experiment(name: str) -> str:
    """Id of the pipeline's experiment; makes the experiment if it does not exist."""
    known = client().get_experiment_by_name(name)
    if known is None:
        try:
            return str(client().create_experiment(name))
        except MlflowException as err:
            known = client().get_experiment_by_name(name)  # another process made it first
            if known is None:
                raise err from None
    return str(known.experiment_id)


def find_run(name: str, tag: str, value: str) -> Run | None:
    """The newest run of the pipeline's experiment with this tag."""
    known = client().get_experiment_by_name(name)
    if known is None:
        return None
    runs = client().search_runs(
        [known.experiment_id],
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
        pipeline_uri=run.data.tags[PIPELINE],
        snapshot_uri=run.data.tags[SNAPSHOT],
    )


def alias_version(name: str, alias: str) -> int | None:
    """Number of the version that has the alias."""
    model = existing(client().get_registered_model, name)
    version = model.aliases.get(alias) if model else None
    return None if version is None else int(version)
