"""With the scheduler start the deployments: what served before a stop or a reboot serves again.

Otherwise it would take the schedule of `deploy__NAME`, ten minutes at most, to bring a model back
whose server is gone.
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
    """Listens to Airflow's programs."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Start every `deploy__NAME` when a scheduler begins.

        A job does not know its kind yet when Airflow calls this; the command line does.
        """
        if type(component).__name__ == "Job" and "scheduler" in sys.argv[1:]:
            started = start_deployments()
            log.info("started %s", ", ".join(started) or "no deployment")


def start_deployments() -> list[str]:
    """Trigger the deploy DAGs that no run waits for; returns their ids."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models import DagModel, DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import select

    with create_session() as session:
        known = select(DagModel.dag_id).where(
            DagModel.dag_id.startswith(_PREFIX, autoescape=True),
            DagModel.is_stale.is_(False),
            DagModel.is_paused.is_(False),
            # One that waits already will see all that this one would.
            DagModel.dag_id.not_in(select(DagRun.dag_id).where(DagRun.state == DagRunState.QUEUED)),
        )
        waiting = list(session.scalars(known))
    for dag_id in waiting:
        trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.OPERATOR, note="scheduler start")
    return waiting


class StartPlugin(AirflowPlugin):
    """Makes the listener known to the scheduler."""

    name = "mlops_start"
    listeners = [Starter()]  # noqa: RUF012
