"""Who is compared with whom, and on which rows."""

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
from tasks.data import units as hashing
from tasks.gate import bootstrap, drawn
from tasks.gate.bootstrap import Improvement, NoValueError
from tasks.models import flavors, logged, metrics
from tasks.pipeline.metrics import PROBABILITIES, of_task
from tasks.pipeline.schema import Gate, Pipeline, Task
from tasks.records import registry
from tasks.records.snapshots import UNIT, Manifest, read_manifest, read_part


class IncomparableError(Exception):
    """Why two models cannot be compared fairly; the gate's verdict is then `inconclusive`."""


@dataclass(frozen=True)
class Contender:
    """A model that is scored, with the columns that it takes."""

    label: str
    model: Any
    columns: tuple[str, ...]

    def outcome(self, rows: pd.DataFrame, target: str, task: Task, metric: str) -> metrics.Outcome:
        """Its answers, as far as the metric needs them.

        Raises:
            IncomparableError: The model cannot take these rows.
        """
        lacking = [column for column in self.columns if column not in rows]
        if lacking:
            raise IncomparableError(
                f"{self.label.capitalize()} needs columns that the test part lacks: "
                f"{', '.join(lacking)}."
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
    """A registered version with the snapshot that it was trained on."""

    name: str
    version: int
    manifest: Manifest

    @classmethod
    def champion(cls, name: str, version: int) -> Trained:
        """A version by its own tags: it may have come from anywhere.

        Raises:
            IncomparableError: What it was trained on is not known any more.
        """
        entry = registry.version(name, version)
        uri = entry.tags.get(tracking.SNAPSHOT) if entry is not None else None
        if uri is None:
            raise IncomparableError(
                f"Version {version} has no tag {tracking.SNAPSHOT!r}, so nobody knows which rows "
                "it was trained on."
            )
        try:
            return cls(name, version, read_manifest(uri))
        except UserError as err:
            raise IncomparableError(
                f"The snapshot that version {version} was trained on is gone: {uri}."
            ) from err

    def training_rows(self) -> pd.DataFrame:
        """Train and validation parts: the model was refitted on both.

        Raises:
            IncomparableError: They are gone.
        """
        try:
            parts = [read_part(self.manifest, part) for part in ("train", "validation")]
        except MissingObjectError as err:
            raise IncomparableError(
                f"Rows that version {self.version} was trained on are gone: {err.what}"
            ) from err
        return pd.concat(parts, ignore_index=True)

    def training_units(self, other: Manifest) -> NDArray[np.int64]:
        """Hashes of the units that it was trained on, as `other` defines a unit.

        Raises:
            IncomparableError: Its snapshot lacks a column of that definition.
        """
        rows = self.training_rows()
        columns = other.units.columns
        lacking = [c for c in columns if _kind(self.manifest, c) != _kind(other, c)]
        if lacking:
            raise IncomparableError(
                f"The snapshot of version {self.version} lacks columns that make a unit here, or "
                f"has them with another type: {', '.join(lacking)}."
            )
        if columns == self.manifest.units.columns:
            return np.asarray(rows[UNIT].unique())
        return np.unique(hashing.hashes(rows, columns))

    @property
    def uri(self) -> str:
        """Its model in the registry."""
        return f"models:/{self.name}/{self.version}"

    def contender(self) -> Contender:
        """Its model, loaded; one that was logged by hand may take some of the features only."""
        columns = logged.input_columns(self.uri) or self.manifest.features
        return Contender(f"version {self.version}", flavors.load(self.uri), columns)


def check_same_question(challenger: Manifest, champion: Trained) -> None:
    """Whether both predict the same thing.

    Raises:
        IncomparableError: They don't.
    """
    theirs = champion.manifest
    if (challenger.target, challenger.task) != (theirs.target, theirs.task):
        raise IncomparableError(
            f"Version {champion.version} predicts {theirs.target} ({theirs.task}), this one "
            f"{challenger.target} ({challenger.task})."
        )


def improvement(  # noqa: PLR0913 - who, on what, and how
    metric: str,
    challenger: metrics.Outcome,
    opponent: metrics.Outcome,
    rows: pd.DataFrame,
    pipeline: Pipeline,
    *,
    gate: Gate,
    trained: int,
) -> Improvement:
    """How much better the challenger's answers to these rows are; see `bootstrap.improvement`.

    Raises:
        IncomparableError: A class is too rare among them for the metric.
    """
    names, unit_of = np.unique(rows[UNIT].to_numpy(), return_inverse=True)
    try:
        return bootstrap.improvement(
            drawn.statistic(metric, challenger, unit_of),
            drawn.statistic(metric, opponent, unit_of),
            len(names),
            of_task(pipeline.data.task)[metric],
            gate,
            trained=trained,
        )
    except NoValueError as err:
        units = rows.groupby(pipeline.data.target)[UNIT].nunique()
        raise IncomparableError(
            f"These rows have too few units of class {units.idxmin()} ({units.min()}) to compare "
            f"the {metric}: {err}."
        ) from err


def _kind(manifest: Manifest, column: str) -> str | None:
    """What a column's values are hashed as; None where there is no such column."""
    if column not in manifest.columns:
        return None
    kind = manifest.columns[column].type
    return "number" if kind in ("double", "integer", "boolean") else kind


def baseline(pipeline: Pipeline, training: pd.DataFrame) -> Contender:
    """What a first model must beat: the best constant for the metric."""
    truth = training[pipeline.data.target]
    model: Any
    if pipeline.data.task == "regression":
        strategy = "median" if pipeline.metric.name == "mae" else "mean"
        words, model = f"the {strategy}", DummyRegressor(strategy=strategy)
    elif pipeline.metric.name in _BY_CONSTANT:
        label = max(sorted(truth.unique()), key=lambda one: _constant_score(pipeline, truth, one))
        words, model = f"always {label}", DummyClassifier(strategy="constant", constant=label)
    else:
        words, model = "the class frequencies", DummyClassifier(strategy="prior")
    model.fit(np.zeros((len(truth), 1)), truth)
    return Contender(f"a baseline ({words})", model, ())


_BY_CONSTANT = frozenset({"f1", "f1_weighted", "precision", "precision_weighted"})
"""Metrics for which the most frequent class may be the worst constant."""


def _constant_score(pipeline: Pipeline, truth: pd.Series[Any], label: Any) -> float:
    model = DummyClassifier(strategy="constant", constant=label)
    model.fit(np.zeros((len(truth), 1)), truth)
    features, task = np.zeros((len(truth), 1)), pipeline.data.task
    return metrics.score(
        pipeline.metric.name,
        metrics.predict(model, features, truth, task, probabilities=False),
    )
