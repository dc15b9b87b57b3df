"""The candidate: the best trial's configuration, refitted, tested once, logged and registered."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow.data import pandas_dataset
from mlflow.entities import Metric, RunTag
from sklearn.pipeline import Pipeline as Model

from tasks.base import process
from tasks.base.refs import BestRef, VersionRef
from tasks.clients import tracking
from tasks.evaluate.plots import plots
from tasks.evaluate.provenance import git_commit
from tasks.models import fitting, flavors, metrics
from tasks.models.fitting import Rows
from tasks.pipeline.schema import Pipeline
from tasks.records import registry, resolved
from tasks.records.snapshots import UNIT, Manifest, read_manifest, read_part
from tasks.records.trials.seeds import trial_seed

log = logging.getLogger(__name__)

EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Candidate:
    """A refitted model with the rows that made and tested it."""

    pipeline: Pipeline
    manifest: Manifest
    params: dict[str, Any]
    model: Model
    fitted_on: pd.DataFrame
    test: pd.DataFrame

    @property
    def example(self) -> pd.DataFrame:
        """A few test rows, features only."""
        return self.features(self.test).head(EXAMPLE_ROWS).reset_index(drop=True)

    @property
    def classes(self) -> list[str]:
        """The labels that the model knows, in order."""
        return [str(label) for label in getattr(self.model, "classes_", ())]

    def features(self, part: pd.DataFrame) -> pd.DataFrame:
        """The columns that the model sees."""
        return part[list(self.pipeline.feature_names)]

    def target(self, part: pd.DataFrame) -> pd.Series[Any]:
        """The truth, `(rows,)`."""
        return part[self.pipeline.data.target]


def evaluate(best: BestRef) -> VersionRef:
    """Refit on train + validation, score the test part once, log the model, register it.

    A repeated call finds the version that the first one registered.
    """
    entry = registry.registered(best.name, best.run_id)
    if entry is None:
        candidate = _refit(best)
        _log_scores(best, candidate)
        with _resumed(best.run_id):
            model_uri = flavors.log(candidate.model, candidate.example)
        entry = registry.register(
            best.name,
            best.run_id,
            model_uri,
            description=candidate.pipeline.description,
            tags=_tags(best, candidate)
            | {
                tracking.SNAPSHOT: best.snapshot_uri,
                tracking.PIPELINE: best.pipeline_uri,
                tracking.STAGE: "None",
            },
        )
    version = int(entry.version)
    tracking.client().set_registered_model_alias(best.name, tracking.CHALLENGER, str(version))
    log.info("registered %s version %d as challenger", best.name, version)
    run = best.model_dump(exclude={"trial", "trial_run_id"})
    return VersionRef(**run, version=version)


def _refit(best: BestRef) -> Candidate:
    """Fit the chosen configuration on all rows except the test part, under MLflow's autolog."""
    pipeline, manifest = resolved.read(best.pipeline_uri), read_manifest(best.snapshot_uri)
    chosen = json.loads(tracking.client().get_run(best.run_id).data.tags[tracking.BEST])
    rows = pd.concat(
        [read_part(manifest, part) for part in ("train", "validation") if part in manifest.parts],
        ignore_index=True,
    )
    with _autolog(), _resumed(best.run_id):
        fitted = fitting.refit(
            pipeline,
            chosen["params"],
            Rows.from_part(pipeline, rows),
            chosen["chosen"],
            seed=trial_seed(pipeline.search.seed, best.trial),
            threads=process.cores(),
        )
    return Candidate(
        pipeline, manifest, chosen["params"], fitted, rows, read_part(manifest, "test")
    )


@contextmanager
def _autolog() -> Iterator[None]:
    """Log every key of get_params() on the run; the model is logged elsewhere, without pickle."""
    with warnings.catch_warnings():
        # MLflow calls scikit-learn's log_loss with a parameter that 1.9 deprecates.
        warnings.filterwarnings("ignore", "`y_pred` was renamed to `y_proba`", FutureWarning)
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        try:
            yield
        finally:
            mlflow.sklearn.autolog(disable=True)


@contextmanager
def _resumed(run_id: str) -> Iterator[None]:
    """The parent run as MLflow's active run. It stays open: `finish` closes it."""
    tracking.client()
    mlflow.start_run(run_id=run_id)
    try:
        yield
    finally:
        mlflow.end_run("RUNNING")


def _log_scores(best: BestRef, candidate: Candidate) -> None:
    """Log `training_*` and `test_*` of every metric of the task, the plots, the data, the tags."""
    client, task = tracking.client(), candidate.pipeline.data.task
    figures: dict[str, float] = {}
    outcomes = {
        prefix: metrics.predict(
            candidate.model, candidate.features(rows), candidate.target(rows), task
        )
        for prefix, rows in (("training", candidate.fitted_on), ("test", candidate.test))
    }
    for prefix, outcome in outcomes.items():
        scores = metrics.figures(task, outcome)
        figures |= {f"{prefix}_{name}": value for name, value in scores.items()}
    logged_at = int(time.time() * 1000)
    client.log_batch(
        best.run_id,
        metrics=[Metric(name, value, logged_at, 0) for name, value in figures.items()],
        tags=[RunTag(name, text) for name, text in _tags(best, candidate).items()],
    )
    charts = plots(task, outcomes["test"], candidate.classes, candidate.pipeline.data.target)
    for file, chart in charts.items():
        client.log_figure(best.run_id, chart, file)
    _log_inputs(best, candidate)


@tracking.without_hints()
def _log_inputs(best: BestRef, candidate: Candidate) -> None:
    """Log the snapshot's parts as MLflow datasets; some rows are enough for the schema."""
    manifest = candidate.manifest
    with _resumed(best.run_id):
        for part, uri in manifest.parts.items():
            rows = candidate.test if part == "test" else candidate.fitted_on
            dataset = pandas_dataset.from_pandas(
                rows.head(1000).drop(columns=UNIT),
                source=uri,
                targets=candidate.pipeline.data.target,
                name=f"{best.name}/{part}",
                digest=manifest.files[part].sha256[:16],
            )
            mlflow.log_input(dataset, context=part)


def _tags(best: BestRef, candidate: Candidate) -> dict[str, str]:
    return candidate.pipeline.tags | {
        "author": candidate.pipeline.owner,
        "description": candidate.pipeline.description,
        "notes": f"trial {best.trial} of the search, refitted on train + validation",
        "data_version": candidate.manifest.address,
        "model_type": str(candidate.params["estimator"]),
        "git_commit": git_commit(),
    }
