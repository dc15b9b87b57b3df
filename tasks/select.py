"""The best trial of a finished search, and the report on the search."""

from __future__ import annotations

import json
import logging

from tasks.base.errors import RunFailedError
from tasks.base.refs import BestRef, RunRef
from tasks.clients import tracking
from tasks.models import fitting
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records import report, resolved
from tasks.records.trials.progress import Summary, summary, total
from tasks.records.trials.publish import publish_rest

log = logging.getLogger(__name__)


def select(run: RunRef) -> BestRef:
    """Choose the trial with the best validation figure; ties go to the shorter, then the earlier.

    Raises:
        RunFailedError: The search stopped before its end, or no trial finished.
    """
    publish_rest(run)
    pipeline = resolved.read(run.pipeline_uri)
    trials = summary(run.run_id)
    _check_complete(trials, pipeline)
    best = trials.best
    if best is None:
        raise RunFailedError(
            f"None of the {trials.asked} trials finished: {trials.failed} failed, "
            f"{trials.killed} were stopped at a limit.",
            why="\n".join(trials.errors),
            fix="The child runs in MLflow hold each error.",
        )
    params = space.evaluate(space.parse(pipeline.search.space), best.vals)
    chosen = {name: value for name, value in best.metrics.items() if name in fitting.CHOSEN}
    content = {"trial": best.tid, "params": params, "chosen": chosen}
    client = tracking.client()
    client.set_tag(run.run_id, tracking.BEST, json.dumps(content))
    figure = f"val_{pipeline.metric.name}"
    for name in (figure, f"{figure}_std"):  # only folds have a spread
        if name in best.metrics:
            client.log_metric(run.run_id, name, best.metrics[name])
    log.info(
        "best of %d: trial %d, %s %.6g, %s",
        trials.finished,
        best.tid,
        figure,
        best.score,
        params,
    )
    report.write(run, pipeline)
    return BestRef(**run.model_dump(), trial=best.tid, trial_run_id=best.run_id)


def _check_complete(trials: Summary, pipeline: Pipeline) -> None:
    if pipeline.search.timeout is None and trials.recorded < total(pipeline):
        raise RunFailedError(
            f"The search stopped after {trials.recorded} of {total(pipeline)} trials.",
            why="Every slot failed for good.",
            fix="Clear the `search` tasks in Airflow: they continue where they stopped.",
        )
