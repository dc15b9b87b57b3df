"""`housekeeping`: removes once a day what would grow without limit."""

from __future__ import annotations

from airflow.sdk import DAG

import steps
from wiring import Step, shared

with DAG(
    "housekeeping",
    **shared("mlops"),
    description="Delete old task logs",
    schedule="@daily",
    tags=["housekeeping"],
    doc_md="Deletes task logs that have not changed for `MLOPS_LOG_DAYS` days (30 by default).",
) as dag:
    Step(
        task_id="logs",
        python_callable=steps.remove_old_logs,
        doc_md="Deletes old files in Airflow's log folder.",
    )
