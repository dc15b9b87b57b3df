"""What the DAG files share: options, the operator, and the loop over the pipeline files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
    get_parsing_context,
)

import steps
from mlops_links import EndpointLink, RunLink, VersionLink
from tasks.base.errors import UserError
from tasks.base.process import guarded
from tasks.pipeline import load
from tasks.pipeline.schema import Pipeline

log = logging.getLogger(__name__)

NO_SECOND_TRY = tuple(
    f"tasks.base.errors.{name}" for name in ("UserError", "RunFailedError", "ConflictError")
)

DEFAULTS: dict[str, Any] = {
    # More retries than one outage can use up: a crash of Airflow itself costs tries, too.
    "retries": 6,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 1.5,
    "max_retry_delay": timedelta(seconds=30),
    "retry_policy": ExceptionRetryPolicy(
        rules=[RetryRule(exception=kind, action=RetryAction.FAIL) for kind in NO_SECOND_TRY]
    ),
}


def shared(owner: str) -> dict[str, Any]:
    """The options that all of the project's DAGs share."""
    return {
        "start_date": pendulum.datetime(2024, 1, 1, tz="UTC"),
        "catchup": False,
        "max_active_runs": 1,
        "default_args": DEFAULTS | {"owner": owner},
    }


class Step(PythonOperator):
    """A task that is killed if it is stopped (SIGSTOP), with links to its results."""

    operator_extra_links = (RunLink(), VersionLink(), EndpointLink())

    def execute(self, context: Any) -> Any:
        """Run the callable under a guardian that kills a stopped process."""
        with guarded():
            self.reference = super().execute(context)
        return self.reference


def judged(challenger: Step, promote: Callable[..., Any], outlet: Asset | AssetAlias) -> Step:
    """Add gate, build and promotion of the version that `challenger` returns; returns the last."""
    gate = Step(
        task_id="gate",
        python_callable=steps.gate,
        op_args=[challenger.output],
        doc_md="Compares challenger and champion on rows that neither was trained on.",
    )
    build = Step(
        task_id="build",
        python_callable=steps.build,
        op_args=[gate.output],
        doc_md="Builds the challenger, starts its server and tests it; skipped if not promoted.",
    )
    return Step(
        task_id="promote",
        python_callable=promote,
        op_args=[build.output],
        outlets=[outlet],
        doc_md="Moves the champion alias and records the move in the ledger.",
    )


def pipelines(prefix: str, build: Callable[[str, Pipeline | None, str], DAG]) -> list[DAG]:
    """A DAG `prefix__NAME` for each pipeline file; within a task, only the DAG of that task.

    A file with mistakes has a DAG, too: its page shows the mistakes, and its first task fails.
    """
    own_dag_id = get_parsing_context().dag_id
    dags = []
    for name in load.names():
        if own_dag_id not in (None, f"{prefix}__{name}"):
            continue
        try:
            dags.append(build(name, load.load(name), ""))
        # The others are faults of our own checks. They must not hide the DAGs of the other files.
        except (UserError, ArithmeticError, LookupError, TypeError, ValueError) as err:
            log.error("%s: %s", name, err, exc_info=not isinstance(err, UserError))
            dags.append(build(name, None, str(err)))
    return dags
