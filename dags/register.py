"""`register`: takes a run that somebody logged by hand through gate, build and promotion.

One DAG serves all pipelines, as the form asks for the name. This keeps the parsing of DAG files
fast.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

import steps
from tasks.pipeline import load
from wiring import Step, judged, shared

DOCS = """\
Makes a run that you logged by hand, in any experiment, the challenger of a pipeline: `register` →
`gate` → `build` → `promote`, as in `train__NAME`. Then `deploy__NAME` serves it.
`./mlops register RUN_ID NAME` checks the run and starts this DAG.

The gate compares models on rows that they were not trained on. It finds these rows through the
run's dataset inputs, which are parts of a snapshot. If the run has none, name the snapshot that
you trained on; you are responsible for its being the right one.
"""

with DAG(
    "register",
    **shared("mlops") | {"max_active_runs": 4},
    description="Judge, build and promote a run logged by hand",
    schedule=None,
    params={
        "run_id": Param(
            type="string", pattern="^[0-9a-f]{32}$", description="the run that logged the model"
        ),
        # Suggestions rather than an enum, which would refuse a file that was added just now.
        "name": Param(type="string", examples=load.names(), description="the pipeline"),
        "snapshot": Param(
            None,
            type=["null", "string"],
            description="manifest URI of the snapshot that the model was trained on; only needed "
            "if the run has no dataset inputs",
        ),
        "model": Param(
            None,
            type=["null", "string"],
            description="id of the logged model; only needed if the run has several",
        ),
    },
    tags=["register"],
    doc_md=DOCS,
) as dag:
    register = Step(
        task_id="register",
        python_callable=steps.register,
        doc_md="Registers the run's model as a version and challenger of the pipeline.",
    )
    judged(register, steps.promote_registered, steps.CHAMPION)
