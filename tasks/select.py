"""The best trial of a finished search, and the report on it."""

from __future__ import annotations

import json
import logging

from mlflow.entities import Run

from tasks.base.errors import RunFailedError
from tasks.base.refs import BestRef, RunRef
from tasks.clients import tracking
from tasks.models import fitting
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records import report, resolved
from tasks.records.trials.progress import summary, total, trial_params
from tasks.records.trials.publish import publish_rest

log = logging.getLogger(__name__)


def select(run: RunRef) -> BestRef:
    """Choose the trial with the best validation figure; ties go to the shorter, then the earlier.

    Raises:
        RunFailedError: The search was given up before its end, or no trial finished.
    """
    publish_rest(run)
    pipeline = resolved.read(run.pipeline)
    counts = summary(run.run_id)
    recorded = counts.finished + counts.failed + counts.killed
    if pipeline.search.timeout is None and recorded < total(pipeline):
        raise RunFailedError(
            f"The search was given up after {recorded} of {total(pipeline)} trials.",
            why="Every slot failed for good.",
            fix="Clear the tasks `search` in Airflow: they go on where they ended.",
        )
    ranking = _ranking(run, pipeline)
    if not ranking:
        raise RunFailedError(
            f"None of the {counts.asked} trials finished: {counts.failed} failed, "
            f"{counts.killed} were stopped at a limit.",
            why="\n".join(counts.errors),
            fix="The child runs in MLflow hold each error.",
        )
    best = ranking[0]
    trial = int(best.data.tags[tracking.TRIAL])
    params = trial_params(run.run_id, trial, space.parse(pipeline.search.space))
    client = tracking.client()
    chosen = {name: value for name, value in best.data.metrics.items() if name in fitting.CHOSEN}
    content = {"trial": trial, "params": params, "chosen": chosen}
    client.set_tag(run.run_id, tracking.BEST, json.dumps(content))
    figure = f"val_{pipeline.metric.name}"
    for name in (figure, f"{figure}_std"):  # folds alone have a spread
        if name in best.data.metrics:
            client.log_metric(run.run_id, name, best.data.metrics[name])
    log.info(
        "best of %d: trial %d, %s %.6g, %s",
        len(ranking),
        trial,
        figure,
        best.data.metrics[figure],
        params,
    )
    report.write(run, pipeline)
    return BestRef(**run.model_dump(), trial=trial, trial_run_id=best.info.run_id)


def _ranking(run: RunRef, pipeline: Pipeline) -> list[Run]:
    """Finished child runs with a finite figure, best first; the server filters and sorts."""
    figure = f"val_{pipeline.metric.name}"
    order = "ASC" if pipeline.metric.direction == "minimize" else "DESC"
    client, token = tracking.client(), None
    found: list[Run] = []
    while True:
        page = client.search_runs(
            [tracking.experiment(run.name)],
            f"tags.`{tracking.PARENT}` = '{run.run_id}' and attributes.status = 'FINISHED'"
            # MLflow stores +inf as 1.797e308
            f" and metrics.{figure} < 1e300 and metrics.{figure} > -1e300",
            order_by=[f"metrics.{figure} {order}", "metrics.duration_s ASC"],
            max_results=1000,
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            break
    sign = 1 if order == "ASC" else -1
    return sorted(
        found,
        key=lambda r: (
            sign * r.data.metrics[figure],
            r.data.metrics["duration_s"],
            int(r.data.tags[tracking.TRIAL]),
        ),
    )
