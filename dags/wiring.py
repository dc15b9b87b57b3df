"""What the DAG files share: the operator, its retries, and which pipelines to build."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, ExceptionRetryPolicy, RetryAction, RetryRule, get_parsing_context

from mlops_links import EndpointLink, RunLink, VersionLink
from tasks.errors import UserError
from tasks.pipeline import load
from tasks.pipeline.schema import Pipeline
from tasks.process import guarded

log = logging.getLogger(__name__)

POOL = "training"
"""Bounds the tasks that compute, over all DAGs."""

NO_SECOND_TRY = tuple(
    f"tasks.errors.{name}" for name in ("UserError", "RunFailedError", "ConflictError")
)

DEFAULTS: dict[str, Any] = {
    # A crash of Airflow itself costs tries too, so there are more than one outage can burn.
    "retries": 6,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 1.5,
    "max_retry_delay": timedelta(seconds=30),
    "retry_policy": ExceptionRetryPolicy(
        rules=[RetryRule(exception=kind, action=RetryAction.FAIL) for kind in NO_SECOND_TRY]
    ),
}


class Step(PythonOperator):
    """A task of ours: ends when it is stopped, and links to what it made."""

    operator_extra_links = (RunLink(), VersionLink(), EndpointLink())

    def execute(self, context: Any) -> Any:
        """Run the callable under the guardian that ends a stopped process."""
        with guarded():
            self.reference = super().execute(context)
        return self.reference


def pipelines(prefix: str, build: Callable[[str, Pipeline | None, str], DAG]) -> list[DAG]:
    """A DAG `prefix__NAME` for each pipeline file; inside a task only for the one that it runs.

    A file with mistakes gives a DAG too: its page says what is wrong, its first task fails.
    """
    wanted = get_parsing_context().dag_id
    dags = []
    for name in load.names():
        if wanted not in (None, f"{prefix}__{name}"):
            continue
        try:
            dags.append(build(name, load.load(name), ""))
        except UserError as err:
            log.error("%s", err)
            dags.append(build(name, None, str(err)))
    return dags
