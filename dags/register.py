"""`register`: a run that a person logged by hand goes the way of every challenger.

One DAG for all pipelines: it costs nothing when DAG files are read, and a person fills in the name.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, Param

import steps
from tasks.pipeline import load
from wiring import DEFAULTS, Step, judged

DOCS = """\
A run that a person logged by hand, in any experiment, becomes the challenger of a pipeline:
`register` → `gate` → `build` → `promote`, the same as in `train__NAME`; then `deploy__NAME` serves
it. `./mlops register RUN_ID NAME` checks the run and starts this DAG.

The gate compares on rows that the model was not trained on. Which they are the run says by its
dataset inputs, parts of a snapshot; else name that snapshot, and answer for it.
"""

with DAG(
    "register",
    description="Judge, build and promote a run that was logged by hand",
    schedule=None,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=4,
    default_args=DEFAULTS | {"owner": "mlops"},
    params={
        "run_id": Param(
            type="string", pattern="^[0-9a-f]{32}$", description="the run that logged the model"
        ),
        # Names to choose from, no enum: it would refuse a file that is newer than this reading.
        "name": Param(type="string", examples=load.names(), description="the pipeline"),
        "snapshot": Param(
            None,
            type=["null", "string"],
            description="URI of the manifest of the snapshot that it was trained on, where the "
            "run's dataset inputs do not say it",
        ),
        "model": Param(
            None,
            type=["null", "string"],
            description="id of the logged model, where the run has several",
        ),
    },
    tags=["register"],
    doc_md=DOCS,
) as dag:
    register = Step(
        task_id="register",
        python_callable=steps.register,
        doc_md="Makes the run's model a version of the pipeline, and challenger.",
    )
    judged(register, steps.promote_registered, steps.CHAMPION)
