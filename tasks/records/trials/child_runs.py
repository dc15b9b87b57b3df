"""The child runs of a search in MLflow: one for each trial."""

from __future__ import annotations

from datetime import datetime

from mlflow.entities import Metric, Param, Run, RunTag

from tasks.clients import tracking
from tasks.records.trials.table import Trial

STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


def create(experiment_id: str, parent_id: str, trial: Trial) -> str:
    """Open a child run for the trial; returns its id."""
    assert trial.began is not None
    run = tracking.client().create_run(
        experiment_id,
        start_time=_milliseconds(trial.began),
        tags={tracking.PARENT: parent_id, tracking.TRIAL: str(trial.tid)},
        run_name=f"trial {trial.tid:03d} {trial.family}",
    )
    return str(run.info.run_id)


def fill(run_id: str, trial: Trial) -> None:
    """Write the trial to its run and end the run. A repeated call writes the same again."""
    assert trial.outcome is not None
    assert trial.ended is not None
    ended = _milliseconds(trial.ended)
    texts = {"error": trial.error, "warnings": trial.warnings}
    tracking.client().log_batch(
        run_id,
        metrics=[
            *(Metric(name, value, ended, 0) for name, value in trial.metrics.items()),
            *(
                Metric(name, value, ended, epoch)
                for name, curve in trial.curves.items()
                for epoch, value in enumerate(curve, 1)
            ),
        ],
        params=[Param(name, str(value)) for name, value in trial.params.items()],
        tags=[RunTag(name, text) for name, text in texts.items() if text],
    )
    tracking.client().set_terminated(run_id, STATUS[trial.outcome], ended)


def running(experiment_id: str, parent_id: str) -> list[Run]:
    """The child runs that are still open."""
    return tracking.every(
        tracking.client().search_runs,
        [experiment_id],
        f"tags.`{tracking.PARENT}` = '{parent_id}' and attributes.status = 'RUNNING'",
    )


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
