"""The end of a DAG run in MLflow: none of its runs stays open, whatever happened."""

from __future__ import annotations

import logging

from mlflow.entities import Run

from tasks.clients import tracking
from tasks.records.trials.publish import publish_rest

log = logging.getLogger(__name__)


def finish(name: str, dag_run: str, *, failed: bool) -> None:
    """Close the DAG run's parent run and its children.

    Trials that a dead slot left unpublished are published first. A child that is still open after
    that belongs to a trial that was never recorded, and is deleted.
    """
    run = tracking.find_run(name, tracking.DAG_RUN, dag_run)
    if run is None:
        return
    _close(run, "FAILED" if failed else "FINISHED")


def sweep(name: str, dag_run: str) -> None:
    """Close the runs that earlier runs of the same DAG left open because `finish` was killed."""
    dag = dag_run.partition("/")[0]
    for run in tracking.every(
        tracking.client().search_runs,
        [tracking.experiment(name)],
        f"attributes.status = 'RUNNING' and tags.`{tracking.DAG_RUN}` LIKE '{dag}/%'",
    ):
        if run.data.tags[tracking.DAG_RUN] != dag_run:
            log.warning("closing run %s, which an earlier DAG run left open", run.info.run_id)
            _close(run, "FAILED")


def _close(run: Run, status: str) -> None:
    publish_rest(tracking.reference(run))
    tracking.client().set_terminated(run.info.run_id, status)
