"""`housekeeping`: removes, once a day, what would grow without end."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

import steps
from wiring import DEFAULTS, Step

with DAG(
    "housekeeping",
    description="Remove old logs of tasks",
    schedule="@daily",
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS | {"owner": "mlops"},
    tags=["housekeeping"],
    doc_md="Removes the logs of tasks to which nobody wrote for `MLOPS_LOG_DAYS` days (30).",
) as dag:
    Step(
        task_id="logs",
        python_callable=steps.remove_old_logs,
        doc_md="Deletes old files in Airflow's log folder.",
    )
