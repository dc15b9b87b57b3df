"""The figures that a decision rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks import ledger, metrics
from tasks.gate import bootstrap, drawn
from tasks.gate.compare import (
    Contender,
    IncomparableError,
    Trained,
    baseline,
    check_same_question,
)
from tasks.gate.decision import Evidence, Threshold
from tasks.pipeline.metrics import of_task
from tasks.pipeline.schema import Pipeline
from tasks.prepare.snapshot import UNIT, read_manifest, read_part
from tasks.refs import VersionRef

FEWEST_UNITS = 10
"""A bootstrap of fewer says nothing, unless the file's `min_rows` is lower still."""

OWN = "the challenger was trained on their unit"
THEIRS = "the champion was trained on their unit"


def measure(version: VersionRef, pipeline: Pipeline, champion: int | None) -> Evidence:
    """Score the challenger and its opponent: the champion, or a baseline when there is none."""
    challenger = Trained(version.name, version.version, read_manifest(version.snapshot))
    found: dict[str, Any] = {"metric": pipeline.metric.name}
    try:
        for figures in _Measurement(pipeline, challenger, champion).figures():
            found |= figures
    except IncomparableError as err:
        found["obstacle"] = str(err)
    return Evidence(**found)


@dataclass(frozen=True)
class _Measurement:
    pipeline: Pipeline
    challenger: Trained
    champion: int | None

    def figures(self) -> Iterator[dict[str, Any]]:
        """Fields of `Evidence`, as far as they can be had.

        Raises:
            IncomparableError: No more can be had.
        """
        manifest = self.challenger.manifest
        test, training = read_part(manifest, "test"), self.challenger.training_rows()
        if "test" in manifest.files:
            digest = manifest.files["test"].sha256
            yield {"test": digest, "used_before": ledger.decisions_on(self.pipeline.name, digest)}
        own = test[~test[UNIT].isin(training[UNIT])]
        removed = {OWN: len(test) - len(own)}
        yield {"test_rows": len(test), "removed": removed} | _size(own)
        self._check_size(own)
        model = self.challenger.contender()
        yield {"thresholds": self._thresholds(model, own)}

        opponent, fair = self._opponent(training, own)
        removed = removed | {THEIRS: len(own) - len(fair)}
        yield {"opponent": opponent.label, "removed": removed} | _size(fair)
        self._check_size(fair)
        yield self._comparison(model, opponent, fair)

    def _opponent(
        self, training: pd.DataFrame, own: pd.DataFrame
    ) -> tuple[Contender, pd.DataFrame]:
        """Who is compared with, and the rows that it was not trained on either."""
        if self.champion is None:
            return baseline(self.pipeline, training), own
        champion = Trained.champion(self.pipeline.name, self.champion)
        check_same_question(self.challenger.manifest, champion)
        units = champion.training_units(self.challenger.manifest)
        return champion.contender(), own[~own[UNIT].isin(units)]

    def _check_size(self, rows: pd.DataFrame) -> None:
        needed = self.pipeline.gate.min_rows
        if len(rows) < needed:
            raise IncomparableError(
                f"{len(rows)} test rows are left that neither model was trained on; "
                f"{needed} are needed."
            )
        units, fewest = rows[UNIT].nunique(), min(needed, FEWEST_UNITS)
        if units < fewest:
            raise IncomparableError(
                f"The {len(rows)} test rows left are of {units} units; {fewest} are needed."
            )

    def _thresholds(self, model: Contender, rows: pd.DataFrame) -> tuple[Threshold, ...]:
        directions = of_task(self.pipeline.data.task)
        return tuple(
            Threshold(
                metric=metric,
                limit=limit,
                value=self._scored(model, rows, metric)[1],
                direction=directions[metric],
            )
            for metric, limit in self.pipeline.gate.thresholds.items()
        )

    def _comparison(
        self, model: Contender, opponent: Contender, rows: pd.DataFrame
    ) -> dict[str, Any]:
        rules, metric = self.pipeline.gate, self.pipeline.metric
        names, unit_of = np.unique(rows[UNIT].to_numpy(), return_inverse=True)
        ours, our_score = self._scored(model, rows, metric.name)
        theirs, their_score = self._scored(opponent, rows, metric.name)
        return {
            "challenger_score": our_score,
            "opponent_score": their_score,
            "improvement": bootstrap.improvement(
                drawn.statistic(metric.name, ours, unit_of),
                drawn.statistic(metric.name, theirs, unit_of),
                len(names),
                metric.direction,
                rules,
            ),
        }

    def _scored(
        self, model: Contender, rows: pd.DataFrame, metric: str
    ) -> tuple[metrics.Outcome, float]:
        """Answers and their figure."""
        data = self.pipeline.data
        found = model.outcome(rows, data.target, data.task, metric)
        score = drawn.score(metric, found)
        if not metrics.is_finite(score):
            raise IncomparableError(f"The {metric} of {model.label} is not a finite number.")
        return found, score


def _size(rows: pd.DataFrame) -> dict[str, int]:
    return {"rows": len(rows), "units": int(rows[UNIT].nunique())}
