"""The paired bootstrap: how sure an improvement is when the rows of a unit hang together."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student

from tasks.gate.drawn import Floats, Statistic
from tasks.pipeline.schema import Gate

POWER = 0.8
"""Of the smallest improvement that counts as detectable."""
_BATCH = 2**21  # draws held in memory at once: 16 MB


class Improvement(BaseModel):
    """How much better the challenger is; above 0 is better whatever the metric's direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimate: float
    lower: float
    """The improvement is above this with `confidence`."""
    upper: float
    """The improvement is below this with `confidence`."""
    standard_error: float
    detectable: float
    """The smallest improvement that would be shown four times out of five."""
    confidence: float
    resamples: int
    seed: int


def improvement(
    challenger: Statistic,
    opponent: Statistic,
    units: int,
    direction: Literal["minimize", "maximize"],
    gate: Gate,
) -> Improvement:
    """Expanded percentile bootstrap of the difference; both are scored on the same drawn units."""
    sign = 1.0 if direction == "maximize" else -1.0

    def difference(counts: Floats) -> Floats:
        return sign * (challenger(counts) - opponent(counts))

    drawn = np.concatenate([difference(counts) for counts in _resampled(units, gate)])
    drawn = drawn[np.isfinite(drawn)]  # a metric of one class has no value where none was drawn
    tail = _expanded(1 - gate.confidence, units)
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    error = float(np.std(drawn, ddof=1))
    normal = NormalDist()
    return Improvement(
        estimate=float(difference(np.ones((1, units)))[0]),
        lower=float(lower),
        upper=float(upper),
        standard_error=error,
        detectable=(normal.inv_cdf(gate.confidence) + normal.inv_cdf(POWER)) * error,
        confidence=gate.confidence,
        resamples=gate.resamples,
        seed=gate.seed,
    )


def _expanded(tail: float, units: int) -> float:
    """The percentile to take for a tail: plain percentiles are too narrow for few units.

    Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015).
    Measured, equal models, confidence 0.95, 30 units: 8 % were promoted without it, 6 % with it.
    """
    wider = float(student.ppf(tail, units - 1)) * (units / (units - 1)) ** 0.5
    return NormalDist().cdf(wider)


def _resampled(units: int, gate: Gate) -> Iterator[Floats]:
    """Multinomial counts of the units, in batches `(resamples in the batch, units)`."""
    rng = np.random.default_rng(gate.seed)
    batch = max(1, _BATCH // units)
    for start in range(0, gate.resamples, batch):
        size = min(batch, gate.resamples - start)
        draws = rng.integers(0, units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(draws.ravel(), minlength=size * units)
        yield counts.reshape(size, units).astype(np.float64)
