"""`train__NAME`: from data to a promoted model, one DAG per pipeline file."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, Param, TriggerRule

import steps
from tasks.clients.orchestrator import POOL
from tasks.pipeline.schema import MOST_TRIALS, Pipeline
from wiring import Step, judged, pipelines, shared

DOCS = """\
**{description}**

Owner: {owner}. Data → `prepare` → `search` (hyperopt, {trials} trials in {slots} slots) →
`select` → `evaluate` → `gate` ({mode}) → `build` → `promote`; then `deploy__{name}` serves it
at `/models/{name}/invocations`.

Use the trigger form to change the search, to train on an old snapshot, or to force a run on
unchanged data.
"""


def form(pipeline: Pipeline) -> dict[str, Param]:
    """The trigger form; the task checks its values again."""
    search = pipeline.search
    return {
        "trials": Param(search.trials, type="integer", minimum=1, maximum=MOST_TRIALS),
        "slots": Param(
            search.slots, type="integer", minimum=1, maximum=64, description="trials side by side"
        ),
        "seed": Param(search.seed, type="integer", minimum=0, maximum=2**32 - 1),
        "algorithm": Param(search.algorithm, type="string", enum=["tpe", "random", "grid"]),
        "trial_timeout": Param(
            search.trial_timeout, type="number", exclusiveMinimum=0, description="seconds per trial"
        ),
        "timeout": Param(
            search.timeout,
            type=["null", "number"],
            description="seconds for the whole search; empty: the value in the file",
        ),
        "points": Param(
            [dict(point) for point in search.points],
            type="array",
            items={"type": "object"},
            description='parameters to try first, e.g. [{"estimator": "ridge", "alpha": 1}]',
        ),
        "snapshot": Param(
            None, type=["null", "string"], description="manifest URI of an old snapshot to train on"
        ),
        "gate_mode": Param(
            pipeline.gate.mode,
            type="string",
            enum=["enforce", "dry_run", "disabled"],
            description="dry_run and disabled promote regardless of the verdict",
        ),
        "force": Param(False, type="boolean", description="train even if nothing has changed"),
    }


def train(name: str, pipeline: Pipeline | None, mistake: str) -> DAG:
    """The DAG of a pipeline file; if it has a `mistake`, the DAG's page shows it."""
    settings: dict[str, Any] = {"doc_md": f"**The pipeline file is wrong**\n\n```\n{mistake}\n```"}
    if pipeline is not None:
        settings = {
            "description": pipeline.description,
            "schedule": pipeline.schedule,
            "params": form(pipeline),
            "doc_md": DOCS.format(
                description=pipeline.description,
                owner=pipeline.owner,
                trials=pipeline.search.trials,
                slots=pipeline.search.slots,
                mode=pipeline.gate.mode,
                name=name,
            ),
        }
    with DAG(
        f"train__{name}",
        **shared(pipeline.owner if pipeline else "unknown"),
        tags=["train", name, *([] if pipeline else ["invalid file"])],
        **settings,
    ) as dag:
        chain(name)
    return dag


def chain(name: str) -> None:
    """The tasks in their order."""
    prepare = Step(
        task_id="prepare",
        python_callable=steps.prepare,
        op_kwargs={"name": name},
        doc_md="Reads, validates and splits the data into a snapshot; creates the MLflow run.",
    )
    search = Step.partial(
        task_id="search",
        python_callable=steps.search,
        pool=POOL,
        retries=12,
        doc_md="One slot of the search: runs trials in turn, each an MLflow child run.",
    ).expand(op_kwargs=prepare.output)
    select = Step(
        task_id="select",
        python_callable=steps.select,
        op_args=[prepare.output],
        # A slot that failed for good does no harm if another slot took over its trials.
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,
        doc_md="Ranks the finished trials; writes the leaderboard.",
    )
    evaluate = Step(
        task_id="evaluate",
        python_callable=steps.evaluate,
        op_args=[select.output],
        pool=POOL,
        doc_md="Refits the best trial on train + validation, tests it once, and registers it.",
    )
    promote = judged(evaluate, steps.promote, Asset(f"{name}.champion"))
    finish = Step(
        task_id="finish",
        python_callable=steps.finish,
        op_kwargs={"name": name},
        doc_md="Closes the MLflow runs, even after a failure.",
    ).as_teardown()
    prepare >> search >> select >> evaluate
    promote >> finish


globals().update({dag.dag_id: dag for dag in pipelines("train", train)})
