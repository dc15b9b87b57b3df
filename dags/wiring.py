"""What the DAG files share: the operator, its retries, and which pipelines to build."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

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


def judged(challenger: Step, promote: Callable[..., Any], outlet: Asset | AssetAlias) -> Step:
    """Gate, build and promotion of the version that `challenger` returns; the last of them."""
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
        doc_md="Builds the challenger, starts its server, tries it. Skipped when the gate said no.",
    )
    return Step(
        task_id="promote",
        python_callable=promote,
        op_args=[build.output],
        outlets=[outlet],
        doc_md="Moves the champion alias, on record in the ledger.",
    )


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
        # The others are faults of our checks, which must not take away the DAGs of all files.
        except (UserError, ArithmeticError, LookupError, TypeError, ValueError) as err:
            log.error("%s: %s", name, err, exc_info=not isinstance(err, UserError))
            dags.append(build(name, None, str(err)))
    return dags
