"""What a challenger must not break beside the comparison: limits, slices, size and latency."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from mlflow.artifacts import download_artifacts

from tasks.gate import drawn
from tasks.gate.bootstrap import Improvement
from tasks.gate.compare import IncomparableError, improvement
from tasks.gate.decision import Guardrail
from tasks.models import metrics
from tasks.models.metrics import Outcome
from tasks.pipeline.schema import Gate, Pipeline, Slices
from tasks.records.snapshots import UNIT
from tasks.serving.model_files import read_card

FEWEST_UNITS = 10
"""A bootstrap of fewer says nothing, unless the file's `min_rows` is lower still."""
CALLS = 15

Scored = Callable[[str], Outcome]
"""A model's answers to the fair rows, as far as a metric needs them."""


def of_files(
    uri: str, model: Any, gate: Gate, registered_with: str | None = None
) -> Iterator[Guardrail]:
    """Size and latency of a logged model; nothing is fetched where the file sets no limit.

    `registered_with` is the smoke test, as JSON, of a model that was logged without.
    """
    if gate.model_bytes is None and gate.latency_ms is None:
        return
    with TemporaryDirectory(prefix="mlops-gate-") as folder:
        path = Path(download_artifacts(artifact_uri=uri, dst_path=folder))
        if gate.model_bytes is not None:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            yield _size(size, gate.model_bytes)
        if gate.latency_ms is not None:
            given = json.loads(registered_with) if registered_with else None
            yield _latency(model, read_card(path).smoke_test or given, gate.latency_ms)


def _size(size: int, limit: int) -> Guardrail:
    kept = size <= limit
    said = f"model size {_megabytes(size)}: {_does(kept=kept)} the limit {_megabytes(limit)}."
    return Guardrail.judged("model size", size, limit, said, kept=kept)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.4g} MiB"


def _latency(model: Any, smoke_test: dict[str, Any] | None, limit: float) -> Guardrail:
    """The median call, after one that need not count: what is made at first use is made then."""
    if smoke_test is None:
        said = "latency: not judged, for the model was logged without a smoke test."
        return Guardrail(name="latency", limit=limit, verdict="not judged", words=said)
    inputs = smoke_test["inputs"]
    rows = pd.DataFrame(inputs["data"], columns=inputs["columns"])
    model.predict(rows)
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        model.predict(rows)
        taken.append(1000 * (time.perf_counter() - began))
    figure = median(taken)
    kept = figure <= limit
    said = (
        f"latency {figure:.4g} ms for {len(rows)} rows: {_does(kept=kept)} the limit {limit:.4g}."
    )
    return Guardrail.judged("latency", figure, limit, said, kept=kept)


def _does(*, kept: bool) -> str:
    return "keeps" if kept else "breaks"


@dataclass(frozen=True, eq=False)
class Slice:
    """The fair rows with one value of a column, or the few of several values."""

    rules: Slices
    value: str
    rows: np.ndarray[Any, np.dtype[np.intp]]

    @property
    def name(self) -> str:
        """For the decision."""
        return f"{self.rules.by} = {self.value}"


def of_slices(
    pipeline: Pipeline, rows: pd.DataFrame, ours: Scored, theirs: Scored | None, trained: int
) -> Iterator[Guardrail]:
    """The challenger against the champion on each slice of the fair rows.

    `theirs` is none for a first model, whose slices are shown, not judged. The slices share the
    gate's chance of a false alarm (Bonferroni), or many of them would make one likely.
    """
    gate = pipeline.gate
    slices = [one for rules in gate.slices for one in _slices(rules, rows, pipeline)]
    large = [one for one in slices if _is_large(one, rows)]
    shared = gate.model_copy(
        update={"confidence": 1 - (1 - gate.confidence) / max(1, len(large))},
    )
    for one in slices:
        if one not in large:
            said = f"{one.name}: not judged, for {len(one.rows)} rows are too few."
            yield _unjudged(one, said)
            continue
        metric = one.rules.metric or pipeline.metric.name
        found = _part(ours(metric), one.rows)
        score = drawn.score(metric, found)
        figures = f"{one.name}: {metric} {score:.4g} on {len(one.rows)} rows"
        if theirs is None:
            yield _unjudged(one, f"{figures}; not judged, for there is no champion.")
            continue
        opponent = _part(theirs(metric), one.rows)
        if not (metrics.is_finite(score) and metrics.is_finite(drawn.score(metric, opponent))):
            yield _unjudged(one, f"{one.name}: not judged, for its rows have no {metric}.")
            continue
        try:
            gain = improvement(
                metric, found, opponent, rows.iloc[one.rows], pipeline, gate=shared, trained=trained
            )
        except IncomparableError as err:
            yield _unjudged(one, f"{one.name}: not judged. {err}")
            continue
        yield _against(one, figures, gain)


def _slices(rules: Slices, rows: pd.DataFrame, pipeline: Pipeline) -> list[Slice]:
    kind = pipeline.data.columns[rules.by].type
    codes, values = pd.factorize(rows[rules.by], sort=True, use_na_sentinel=False)
    return [
        Slice(rules, _shown(value, kind), np.flatnonzero(codes == code))
        for code, value in enumerate(values)
    ]


def _shown(value: Any, kind: str) -> str:
    if pd.isna(value):
        return "missing"
    if kind == "boolean":
        return str(bool(value)).lower()
    return f"{value:g}" if kind == "integer" else str(value)


def _is_large(one: Slice, rows: pd.DataFrame) -> bool:
    needed = one.rules.min_rows
    units = len(np.unique(rows[UNIT].to_numpy()[one.rows]))
    return len(one.rows) >= needed and units >= min(needed, FEWEST_UNITS)


def _part(found: Outcome, rows: Any) -> Outcome:
    return Outcome(
        found.truth[rows], found.predicted[rows], found.probabilities[rows], found.positives
    )


def _unjudged(one: Slice, said: str) -> Guardrail:
    limit = one.rules.max_worsening
    return Guardrail(name=one.name, limit=limit, verdict="not judged", words=said)


def _against(one: Slice, figures: str, gain: Improvement) -> Guardrail:
    """Broken when it is shown to be worse by more than it may."""
    limit = one.rules.max_worsening
    kept = gain.upper >= -limit
    said = (
        f"{figures}: worse by {-gain.estimate:z.4g}, above {-gain.upper:z.4g} and below "
        f"{-gain.lower:z.4g} (each with {100 * gain.confidence:.4g} % confidence); "
        f"{_does(kept=kept)} the limit {limit:.4g}."
    )
    return Guardrail.judged(one.name, -gain.estimate, limit, said, kept=kept)
