"""`deploy__NAME`: makes what serves be the champion, whoever moved the alias and however."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, Asset, AssetOrTimeSchedule, CronTriggerTimetable

import steps
from tasks.pipeline.schema import Pipeline
from wiring import DEFAULTS, Step, pipelines

DOCS = """\
Compares the alias `champion` of **{name}** with what serves `/models/{name}/`, and makes it so:
starts the champion's server, tries it, switches the gateway, lets the old one finish, stops it.
If the new one fails, the old one goes on serving.

Started by each promotion, by `rollback`, with the scheduler, and every ten minutes.
"""


def deploy(name: str, pipeline: Pipeline | None, mistake: str) -> DAG:  # noqa: ARG001
    """The DAG of one pipeline; a mistake in its file is no reason to stop serving."""
    with DAG(
        f"deploy__{name}",
        description=f"Serve the champion of {name}",
        schedule=AssetOrTimeSchedule(
            timetable=CronTriggerTimetable("*/10 * * * *", timezone="UTC"),
            assets=[Asset(f"{name}.champion")],
        ),
        start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULTS | {"owner": pipeline.owner if pipeline else "unknown"},
        tags=["deploy", name],
        doc_md=DOCS.format(name=name),
    ) as dag:
        Step(
            task_id="reconcile",
            python_callable=steps.reconcile,
            op_kwargs={"name": name},
            doc_md="Champion alias against what serves.",
        )
    return dag


globals().update({dag.dag_id: dag for dag in pipelines("deploy", deploy)})
