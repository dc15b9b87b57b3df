"""Starts the deployments with the scheduler: models serve again after a stop or a reboot.

Otherwise a model without a server would be down until the next run of `deploy__NAME`, for up to
ten minutes.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

_PREFIX = "deploy__"


class Starter:
    """Listens to the start of Airflow's programs."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Start every `deploy__NAME` when a scheduler starts.

        Airflow calls this before a job knows its kind, so the command line decides.
        """
        if type(component).__name__ == "Job" and "scheduler" in sys.argv[1:]:
            started = start_deployments()
            log.info("started %s", ", ".join(started) or "no deployment")


def start_deployments() -> list[str]:
    """Trigger the deploy DAGs that have no queued run; returns their ids."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models import DagModel, DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    with create_session() as session:
        deployments = select(DagModel.dag_id).where(
            DagModel.dag_id.startswith(_PREFIX, autoescape=True),
            DagModel.is_stale.is_(False),
            DagModel.is_paused.is_(False),
            # A queued run sees everything that a new one would.
            DagModel.dag_id.not_in(select(DagRun.dag_id).where(DagRun.state == DagRunState.QUEUED)),
        )
        dag_ids = list(session.scalars(deployments))
    for dag_id in dag_ids:
        trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.OPERATOR, note="scheduler start")
    return dag_ids


class StartPlugin(AirflowPlugin):
    """Registers the listener with Airflow."""

    name = "mlops_start"
    listeners = [Starter()]  # noqa: RUF012
