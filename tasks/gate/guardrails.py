"""Limits that a challenger must keep in addition to the comparison: size, latency and slices."""

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
from tasks.gate.compare import improvement
from tasks.gate.contenders import IncomparableError
from tasks.gate.decision import Guardrail, keeps
from tasks.models import metrics
from tasks.models.metrics import Outcome
from tasks.pipeline.schema import Gate, Pipeline, Slices
from tasks.records.snapshots import UNIT
from tasks.serving.model_files import read_card

FEWEST_UNITS = 10
"""A bootstrap of fewer units says nothing; a lower `min_rows` in the file takes precedence."""
CALLS = 15
"""Predictions of which the latency is the median."""

Predictions = Callable[[str], Outcome]
"""Returns a model's predictions for the fair rows, as a metric needs them."""


def file_guardrails(
    model_uri: str, model: Any, gate: Gate, smoke_test: str | None = None
) -> Iterator[Guardrail]:
    """Size and latency of a logged model; nothing is downloaded if the file sets no limit.

    `smoke_test` is JSON, for a model that was logged without a smoke test.
    """
    if gate.model_bytes is None and gate.latency_ms is None:
        return
    with TemporaryDirectory(prefix="mlops-gate-") as folder:
        path = Path(download_artifacts(artifact_uri=model_uri, dst_path=folder))
        if gate.model_bytes is not None:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            yield _size(size, gate.model_bytes)
        if gate.latency_ms is not None:
            later = json.loads(smoke_test) if smoke_test else None
            yield _latency(model, read_card(path).smoke_test or later, gate.latency_ms)


def _size(size: int, limit: int) -> Guardrail:
    kept = size <= limit
    text = f"model size {_megabytes(size)}: {keeps(kept)} the limit {_megabytes(limit)}."
    return Guardrail.judged("model size", size, limit, text, kept=kept)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.4g} MiB"


def _latency(model: Any, smoke_test: dict[str, Any] | None, limit: float) -> Guardrail:
    """The median of some calls, after a first call that sets up what is made on first use."""
    if smoke_test is None:
        return _not_judged("latency", limit, "latency", "the model was logged without a smoke test")
    inputs = smoke_test["inputs"]
    rows = pd.DataFrame(inputs["data"], columns=inputs["columns"])
    model.predict(rows)
    milliseconds = []
    for _ in range(CALLS):
        began = time.perf_counter()
        model.predict(rows)
        milliseconds.append(1000 * (time.perf_counter() - began))
    figure = median(milliseconds)
    kept = figure <= limit
    text = f"latency {figure:.4g} ms for {len(rows)} rows: {keeps(kept)} the limit {limit:.4g}."
    return Guardrail.judged("latency", figure, limit, text, kept=kept)


@dataclass(frozen=True, eq=False)
class Slice:
    """The fair rows with one value of a column."""

    rules: Slices
    value: str
    rows: np.ndarray[Any, np.dtype[np.intp]]

    @property
    def name(self) -> str:
        """Its name in the decision."""
        return f"{self.rules.by} = {self.value}"


def slice_guardrails(
    pipeline: Pipeline,
    rows: pd.DataFrame,
    challenger: Predictions,
    champion: Predictions | None,
    trained: int,
) -> Iterator[Guardrail]:
    """The challenger against the champion on each slice of the fair rows.

    `champion` is None for a first model, whose slices are shown but not judged. The slices share
    the gate's risk of a false alarm (Bonferroni); otherwise many slices would make one likely.
    """
    gate = pipeline.gate
    slices = [part for rules in gate.slices for part in _slices(rules, rows, pipeline)]
    large = [part for part in slices if _is_large(part, rows)]
    shared = gate.model_copy(
        update={"confidence": 1 - (1 - gate.confidence) / max(1, len(large))},
    )
    for part in slices:
        limit, name = part.rules.max_worsening, part.name
        if part not in large:
            yield _not_judged(name, limit, name, f"{len(part.rows)} rows are too few")
            continue
        metric = part.rules.metric or pipeline.metric.name
        outcome = challenger(metric).take(part.rows)
        score = drawn.score(metric, outcome)
        figures = f"{name}: {metric} {score:.4g} on {len(part.rows)} rows"
        if champion is None:
            yield _not_judged(name, limit, figures, "there is no champion")
            continue
        opponent = champion(metric).take(part.rows)
        if not (metrics.is_finite(score) and metrics.is_finite(drawn.score(metric, opponent))):
            yield _not_judged(name, limit, name, f"its rows have no {metric}")
            continue
        try:
            gain = improvement(
                metric,
                outcome,
                opponent,
                rows.iloc[part.rows],
                pipeline,
                gate=shared,
                trained=trained,
            )
        except IncomparableError as err:
            yield _not_judged(name, limit, name, str(err))
            continue
        yield _judged(part, figures, gain)


def _slices(rules: Slices, rows: pd.DataFrame, pipeline: Pipeline) -> list[Slice]:
    kind = pipeline.data.columns[rules.by].type
    codes, values = pd.factorize(rows[rules.by], sort=True, use_na_sentinel=False)
    return [
        Slice(rules, _value_name(value, kind), np.flatnonzero(codes == code))
        for code, value in enumerate(values)
    ]


def _value_name(value: Any, kind: str) -> str:
    if pd.isna(value):
        return "missing"
    if kind == "boolean":
        return str(bool(value)).lower()
    return f"{value:g}" if kind == "integer" else str(value)


def _is_large(part: Slice, rows: pd.DataFrame) -> bool:
    needed = part.rules.min_rows
    units = len(np.unique(rows[UNIT].to_numpy()[part.rows]))
    return len(part.rows) >= needed and units >= min(needed, FEWEST_UNITS)


def _not_judged(name: str, limit: float, figures: str, why: str) -> Guardrail:
    text = f"{figures} (not judged: {why.removesuffix('.')})."
    return Guardrail(name=name, limit=limit, verdict="not judged", text=text)


def _judged(part: Slice, figures: str, gain: Improvement) -> Guardrail:
    """Broken if the challenger is shown to be worse by more than the limit."""
    limit = part.rules.max_worsening
    kept = gain.upper >= -limit
    text = (
        f"{figures}: worse by {-gain.estimate:z.4g}, more than {-gain.upper:z.4g} and less than "
        f"{-gain.lower:z.4g} (each with {100 * gain.confidence:.4g} % confidence); "
        f"{keeps(kept)} the limit {limit:.4g}."
    )
    return Guardrail.judged(part.name, -gain.estimate, limit, text, kept=kept)
