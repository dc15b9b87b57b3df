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
from tasks.base.errors import UserError
from tasks.base.refs import BestRef, VersionRef
from tasks.clients import tracking
from tasks.evaluate.plots import plots
from tasks.evaluate.provenance import git_commit
from tasks.models import fitting, flavors, metrics
from tasks.models.fitting import Rows
from tasks.pipeline.schema import Pipeline
from tasks.records import resolved
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
        return [str(one) for one in getattr(self.model, "classes_", ())]

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
    version = _registered(best)
    if version is None:
        candidate = _refit(best)
        _log_scores(best, candidate)
        model_uri = _log_model(best, candidate)
        version = _register(best, candidate, model_uri)
    tracking.client().set_registered_model_alias(best.name, tracking.CHALLENGER, str(version))
    log.info("registered %s version %d as challenger", best.name, version)
    run = best.model_dump(exclude={"trial", "trial_run_id"})
    return VersionRef(**run, version=version)


def _registered(best: BestRef) -> int | None:
    found = tracking.client().search_model_versions(
        f"name = '{best.name}' and run_id = '{best.run_id}'"
    )
    return max((int(entry.version) for entry in found), default=None)


def _refit(best: BestRef) -> Candidate:
    """Fit the chosen configuration on all rows that are not the test's, under MLflow's autolog."""
    pipeline, manifest = resolved.read(best.pipeline), read_manifest(best.snapshot)
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
    """Autolog puts every get_params() key on the run; the model is logged by hand, no pickle."""
    with warnings.catch_warnings():
        # MLflow calls scikit-learn's log_loss by a name that 1.9 deprecates.
        warnings.filterwarnings("ignore", "`y_pred` was renamed to `y_proba`", FutureWarning)
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        try:
            yield
        finally:
            mlflow.sklearn.autolog(disable=True)


class _resumed:  # noqa: N801
    """The parent run as MLflow's active run, left open: `finish` closes it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def __enter__(self) -> None:
        tracking.client()
        mlflow.start_run(run_id=self.run_id)

    def __exit__(self, *error: object) -> None:
        mlflow.end_run("RUNNING")


def _log_scores(best: BestRef, candidate: Candidate) -> None:
    """`training_*` and `test_*` of every metric of the task, the plots, the data, the tags."""
    client, task = tracking.client(), candidate.pipeline.data.task
    figures: dict[str, float] = {}
    found = {
        prefix: metrics.predict(
            candidate.model, candidate.features(rows), candidate.target(rows), task
        )
        for prefix, rows in (("training", candidate.fitted_on), ("test", candidate.test))
    }
    for prefix, outcome in found.items():
        scores = metrics.figures(task, outcome)
        figures |= {f"{prefix}_{name}": value for name, value in scores.items()}
    now = int(time.time() * 1000)
    client.log_batch(
        best.run_id,
        metrics=[Metric(name, value, now, 0) for name, value in figures.items()],
        tags=[RunTag(name, text) for name, text in _tags(best, candidate).items()],
    )
    charts = plots(task, found["test"], candidate.classes, candidate.pipeline.data.target)
    for file, chart in charts.items():
        client.log_figure(best.run_id, chart, file)
    _log_inputs(best, candidate)


@tracking.without_hints()
def _log_inputs(best: BestRef, candidate: Candidate) -> None:
    """The snapshot's parts as MLflow datasets; some rows are enough for their schema."""
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


def _log_model(best: BestRef, candidate: Candidate) -> str:
    """Log the model with signature, example and requirements, without a pickle; returns its URI."""
    with _resumed(best.run_id):
        return flavors.log(candidate.model, candidate.example)


def _tags(best: BestRef, candidate: Candidate) -> dict[str, str]:
    return candidate.pipeline.tags | {
        "author": candidate.pipeline.owner,
        "description": candidate.pipeline.description,
        "notes": f"trial {best.trial} of the search, refitted on train + validation",
        "data_version": candidate.manifest.address,
        "model_type": str(candidate.params["estimator"]),
        "git_commit": git_commit(),
    }


def _register(best: BestRef, candidate: Candidate, model_uri: str) -> int:
    client = tracking.client()
    if not client.search_registered_models(f"name = '{best.name}'"):
        client.create_registered_model(best.name, description=candidate.pipeline.description)
    registered = client.create_model_version(
        best.name,
        source=model_uri,
        run_id=best.run_id,
        description=candidate.pipeline.description,
        tags=_tags(best, candidate)
        | {
            tracking.SNAPSHOT: best.snapshot,
            tracking.PIPELINE: best.pipeline,
            tracking.STAGE: "None",
        },
        model_id=model_uri.removeprefix("models:/"),
    )
    if registered.status != "READY":
        raise UserError(f"MLflow did not accept the version: {registered.status_message}")
    return int(registered.version)
