"""Measures the figures that a decision is based on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from tasks.base.refs import VersionRef
from tasks.clients import tracking
from tasks.gate import drawn, guardrails
from tasks.gate.compare import check_same_question, improvement
from tasks.gate.contenders import Contender, IncomparableError, Trained, baseline
from tasks.gate.decision import Evidence, Guardrail
from tasks.gate.guardrails import FEWEST_UNITS
from tasks.models import metrics
from tasks.pipeline.metrics import of_thresholds
from tasks.pipeline.schema import Pipeline
from tasks.records import ledger, registry
from tasks.records.snapshots import UNIT, read_manifest, read_part

OWN = "the challenger was trained on their unit"
THEIRS = "the champion was trained on their unit"


def measure(version: VersionRef, pipeline: Pipeline, champion: int | None) -> Evidence:
    """Score the challenger and its opponent, which is the champion or, without one, a baseline."""
    challenger = Trained(version.name, version.version, read_manifest(version.snapshot_uri))
    evidence: dict[str, Any] = {"metric": pipeline.metric.name}
    try:
        for figures in _Measurement(pipeline, challenger, champion).figures():
            evidence |= figures
    except IncomparableError as err:
        evidence["obstacle"] = str(err)
    return Evidence(**evidence)


@dataclass(frozen=True)
class _Measurement:
    pipeline: Pipeline
    challenger: Trained
    champion: int | None

    def figures(self) -> Iterator[dict[str, Any]]:
        """The fields of `Evidence`, until something prevents the comparison.

        Raises:
            IncomparableError: The rest cannot be measured.
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
        entry = registry.version(self.challenger.name, self.challenger.version)
        smoke_test = entry.tags.get(tracking.SMOKE_TEST) if entry is not None else None
        rails = [
            *guardrails.file_guardrails(
                self.challenger.model_uri, model.model, self.pipeline.gate, smoke_test
            )
        ]
        yield {"guardrails": rails}
        rails += self._thresholds(model, own)
        yield {"guardrails": rails}

        opponent, fair = self._opponent(training, own)
        removed = removed | {THEIRS: len(own) - len(fair)}
        yield {"opponent": opponent.label, "removed": removed} | _size(fair)
        self._check_size(fair)
        trained = int(training[UNIT].nunique())
        yield {"guardrails": rails + self._slices(model, opponent, fair, trained)}
        yield self._comparison(model, opponent, fair, trained)

    def _opponent(
        self, training: pd.DataFrame, own: pd.DataFrame
    ) -> tuple[Contender, pd.DataFrame]:
        """The opponent, and the rows that it was not trained on either."""
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
                f"Only {len(rows)} test rows are left that neither model was trained on; "
                f"{needed} are needed."
            )
        units, fewest = rows[UNIT].nunique(), min(needed, FEWEST_UNITS)
        if units < fewest:
            raise IncomparableError(
                f"The {len(rows)} test rows that are left have {units} units; {fewest} are needed."
            )

    def _thresholds(self, model: Contender, rows: pd.DataFrame) -> list[Guardrail]:
        directions = of_thresholds(self.pipeline.data.task)
        return [
            Guardrail.threshold(
                metric, self._score(model, rows, metric)[1], limit, directions[metric]
            )
            for metric, limit in self.pipeline.gate.thresholds.items()
        ]

    def _slices(
        self, model: Contender, opponent: Contender, rows: pd.DataFrame, trained: int
    ) -> list[Guardrail]:
        data = self.pipeline.data

        def predictions(contender: Contender) -> guardrails.Predictions:
            return cache(lambda metric: contender.outcome(rows, data.target, data.task, metric))

        champion = None if self.champion is None else predictions(opponent)
        return [
            *guardrails.slice_guardrails(self.pipeline, rows, predictions(model), champion, trained)
        ]

    def _comparison(
        self, model: Contender, opponent: Contender, rows: pd.DataFrame, trained: int
    ) -> dict[str, Any]:
        metric = self.pipeline.metric.name
        ours, our_score = self._score(model, rows, metric)
        theirs, their_score = self._score(opponent, rows, metric)
        return {
            "challenger_score": our_score,
            "opponent_score": their_score,
            "improvement": improvement(
                metric, ours, theirs, rows, self.pipeline, gate=self.pipeline.gate, trained=trained
            ),
        }

    def _score(
        self, model: Contender, rows: pd.DataFrame, metric: str
    ) -> tuple[metrics.Outcome, float]:
        """The predictions and their metric."""
        data = self.pipeline.data
        outcome = model.outcome(rows, data.target, data.task, metric)
        score = drawn.score(metric, outcome)
        if not metrics.is_finite(score):
            raise IncomparableError(f"The {metric} of {model.label} is not a finite number.")
        return outcome, score


def _size(rows: pd.DataFrame) -> dict[str, int]:
    return {"rows": len(rows), "units": int(rows[UNIT].nunique())}
