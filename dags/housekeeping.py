"""`housekeeping`: removes once a day what would grow without limit."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

import steps
from wiring import DEFAULTS, Step

with DAG(
    "housekeeping",
    description="Delete old task logs",
    schedule="@daily",
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS | {"owner": "mlops"},
    tags=["housekeeping"],
    doc_md="Deletes task logs that have not changed for `MLOPS_LOG_DAYS` days (30 by default).",
) as dag:
    Step(
        task_id="logs",
        python_callable=steps.remove_old_logs,
        doc_md="Deletes old files in Airflow's log folder.",
    )
