"""Who is compared: a challenger, and the champion or a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier, DummyRegressor

from tasks.base.errors import UserError
from tasks.clients import tracking
from tasks.clients.store import MissingObjectError
from tasks.data import units
from tasks.models import flavors, logged, metrics
from tasks.pipeline.metrics import PROBABILITIES, Task
from tasks.pipeline.schema import Pipeline
from tasks.records import registry
from tasks.records.snapshots import UNIT, Manifest, read_manifest, read_part


class IncomparableError(Exception):
    """Two models cannot be compared fairly, so the verdict is `inconclusive`."""


@dataclass(frozen=True)
class Contender:
    """A model to score, with the columns that it takes."""

    label: str
    model: Any
    columns: tuple[str, ...]

    def outcome(self, rows: pd.DataFrame, target: str, task: Task, metric: str) -> metrics.Outcome:
        """Its predictions, with probabilities if the metric needs them.

        Raises:
            IncomparableError: The model cannot predict these rows.
        """
        missing = [column for column in self.columns if column not in rows]
        if missing:
            raise IncomparableError(
                f"{self.label.capitalize()} needs columns that the test part does not have: "
                f"{', '.join(missing)}."
            )
        try:
            return metrics.predict(
                self.model,
                rows[list(self.columns)],
                rows[target].to_numpy(),
                task,
                probabilities=metric in PROBABILITIES,
            )
        except (ValueError, TypeError, AttributeError) as err:
            raise IncomparableError(
                f"{self.label.capitalize()} cannot predict these rows: {err}"
            ) from err


@dataclass(frozen=True)
class Trained:
    """A registered version, with the snapshot that it was trained on."""

    name: str
    version: int
    manifest: Manifest

    @classmethod
    def champion(cls, name: str, version: int) -> Trained:
        """A version with the snapshot that its own tags name.

        Raises:
            IncomparableError: The snapshot is unknown or deleted.
        """
        entry = registry.version(name, version)
        snapshot_uri = entry.tags.get(tracking.SNAPSHOT) if entry is not None else None
        if snapshot_uri is None:
            raise IncomparableError(
                f"Version {version} has no tag {tracking.SNAPSHOT!r}, so its training rows are "
                "not known."
            )
        try:
            return cls(name, version, read_manifest(snapshot_uri))
        except UserError as err:
            raise IncomparableError(
                f"The snapshot that version {version} was trained on is gone: {snapshot_uri}."
            ) from err

    def training_rows(self) -> pd.DataFrame:
        """The train and validation parts: the model was refitted on both.

        Raises:
            IncomparableError: They were deleted.
        """
        try:
            parts = [read_part(self.manifest, part) for part in ("train", "validation")]
        except MissingObjectError as err:
            raise IncomparableError(
                f"Training rows of version {self.version} are gone: {err.what}"
            ) from err
        return pd.concat(parts, ignore_index=True)

    def training_units(self, other: Manifest) -> NDArray[np.int64]:
        """Hashes of the units that it was trained on, by the definition of a unit in `other`.

        Raises:
            IncomparableError: Its snapshot does not have the columns of that definition.
        """
        rows = self.training_rows()
        columns = other.units.columns
        differing = [name for name in columns if _kind(self.manifest, name) != _kind(other, name)]
        if differing:
            raise IncomparableError(
                f"Columns that define a unit are missing or of another type in the snapshot of "
                f"version {self.version}: {', '.join(differing)}."
            )
        if columns == self.manifest.units.columns:
            return np.asarray(rows[UNIT].unique())
        return np.unique(units.hashes(rows, columns))

    @property
    def model_uri(self) -> str:
        """URI of its model in the registry."""
        return f"models:/{self.name}/{self.version}"

    def contender(self) -> Contender:
        """Its loaded model; a model logged by hand may take only some of the features."""
        columns = logged.input_columns(self.model_uri) or self.manifest.features
        return Contender(f"version {self.version}", flavors.load(self.model_uri), columns)


def _kind(manifest: Manifest, column: str) -> str | None:
    """How a column's values are hashed; None if there is no such column."""
    if column not in manifest.columns:
        return None
    kind = manifest.columns[column].type
    return "number" if kind in ("double", "integer", "boolean") else kind


def baseline(pipeline: Pipeline, training: pd.DataFrame) -> Contender:
    """What a first model must beat: the best constant prediction for the metric."""
    truth = training[pipeline.data.target]
    model: Any
    if pipeline.data.task == "regression":
        strategy = "median" if pipeline.metric.name == "mae" else "mean"
        label, model = f"the {strategy}", DummyRegressor(strategy=strategy)
    elif pipeline.metric.name in _BY_CONSTANT:
        scores = {
            value: _constant_score(pipeline, truth, value) for value in sorted(truth.unique())
        }
        best = max(scores, key=lambda value: scores[value])
        label, model = f"always {best}", DummyClassifier(strategy="constant", constant=best)
    else:
        label, model = "the class frequencies", DummyClassifier(strategy="prior")
    model.fit(np.zeros((len(truth), 1)), truth)
    return Contender(f"a baseline ({label})", model, ())


_BY_CONSTANT = frozenset({"f1", "f1_weighted", "precision", "precision_weighted"})
"""Metrics for which the most frequent class may be the worst constant."""


def _constant_score(pipeline: Pipeline, truth: pd.Series[Any], value: Any) -> float:
    model = DummyClassifier(strategy="constant", constant=value)
    model.fit(np.zeros((len(truth), 1)), truth)
    features, task = np.zeros((len(truth), 1)), pipeline.data.task
    return metrics.score(
        pipeline.metric.name,
        metrics.predict(model, features, truth, task, probabilities=False),
    )
