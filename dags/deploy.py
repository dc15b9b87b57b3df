"""`deploy__NAME`: serves the champion, whoever has moved the alias."""

from __future__ import annotations

from zlib import crc32

from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable

import steps
from tasks.pipeline.schema import Pipeline
from wiring import Step, pipelines, shared

DOCS = """\
Serves the version of **{name}** that has the alias `champion` at `/models/{name}/`. If another
version is serving, this DAG starts the champion's server, tests it, switches the gateway, waits
until the old server has finished its requests, and stops it. If the new server fails, the old
one continues to serve.

Runs after each promotion and `rollback`, when the scheduler starts, and every ten minutes.
"""


def _minute(name: str) -> int:
    """The first minute of an hour in which the model is looked at: not all at once."""
    return crc32(name.encode()) % 10


def deploy(name: str, pipeline: Pipeline | None, mistake: str) -> DAG:  # noqa: ARG001
    """The DAG of a pipeline; a mistake in the file does not stop serving."""
    with DAG(
        f"deploy__{name}",
        **shared(pipeline.owner if pipeline else "unknown"),
        description=f"Serve the champion of {name}",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable(f"{_minute(name)}-59/10 * * * *", timezone="UTC"),
            assets=[Asset(f"{name}.champion")],
        ),
        tags=["deploy", name],
        doc_md=DOCS.format(name=name),
    ) as dag:
        Step(
            task_id="reconcile",
            python_callable=steps.reconcile,
            op_kwargs={"name": name},
            doc_md="Compares the champion alias with the version that serves; switches if needed.",
        )
    return dag


globals().update({dag.dag_id: dag for dag in pipelines("deploy", deploy)})
