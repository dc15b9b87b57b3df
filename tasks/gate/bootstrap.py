"""The paired bootstrap: how sure an improvement is when the rows of a unit hang together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import t as student

from tasks.gate.drawn import Floats, Statistic
from tasks.pipeline.schema import Gate

POWER = 0.9
"""Of the smallest improvement that counts as detectable."""
MOST_LOST = 0.05
"""The share of resamples that may have no value: the others have every class, so vary too little.

Measured, six classes with three rare ones, 80 units, equal models: where no more was lost 5 % were
promoted, where up to 20 % was 10 %, where more was 17 %.
"""
LUCK = 2.0
"""Variance of two trainings' luck, in that of the test rows times tested / trained.

1 would do for models that are smooth in their parameters (Nadeau and Bengio, Inference for the
Generalization Error, Machine Learning 52, 2003). Networks that begin at random and stop early have
up to 1.7: measured on the wines by benchmarks/gate.py, see docs/architecture.md.
"""
_BATCH = 2**21  # draws held in memory at once: 16 MB


class NoValueError(Exception):
    """Too many resamples have no value of the metric, as one of ranks has none without a class."""

    def __init__(self, lost: float) -> None:
        super().__init__(
            f"{100 * lost:.3g} % of the resamples have no value of it, "
            f"at most {100 * MOST_LOST:g} % may"
        )


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
    """The smallest improvement that would be shown in a share `power` of cases."""
    power: float = 0.8  # what records without it were made with
    confidence: float
    widening: float = 1.0
    """By what the interval is wider than one that takes the challenger's training for certain."""
    resamples: int
    seed: int


def improvement(  # noqa: PLR0913 - who, on what, and how
    challenger: Statistic,
    opponent: Statistic,
    units: int,
    direction: Literal["minimize", "maximize"],
    gate: Gate,
    *,
    trained: float = math.inf,
) -> Improvement:
    """Expanded percentile bootstrap of the difference; both are scored on the same drawn units.

    `trained` is the number of units behind the challenger: the fewer they are for those it is
    tested on, the more of a difference is the luck of its training. The interval is wider by
    sqrt(1 + LUCK * tested / trained); benchmarks/gate.py shows what it does.

    Raises:
        NoValueError: For more than a share `MOST_LOST` of the resamples.
    """
    sign = 1.0 if direction == "maximize" else -1.0

    def difference(counts: Floats) -> Floats:
        return sign * (challenger(counts) - opponent(counts))

    drawn = np.concatenate([difference(counts) for counts in _resampled(units, gate)])
    valued = np.isfinite(drawn)
    if (lost := 1 - float(np.mean(valued))) > MOST_LOST:
        raise NoValueError(lost)
    drawn = drawn[valued]
    widening = math.sqrt(1 + LUCK * units / trained)
    tail = NormalDist().cdf(widening * _quantile(1 - gate.confidence, units))
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    error = float(np.std(drawn, ddof=1))
    shown = _quantile(gate.confidence, units) + _quantile(POWER, units)
    return Improvement(
        estimate=float(difference(np.ones((1, units)))[0]),
        lower=float(lower),
        upper=float(upper),
        standard_error=error,
        detectable=widening * shown * error,
        power=POWER,
        confidence=gate.confidence,
        widening=widening,
        resamples=gate.resamples,
        seed=gate.seed,
    )


def _quantile(share: float, units: int) -> float:
    """In standard errors, of which a bootstrap of few units finds too small ones.

    Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015).
    Measured, equal models, confidence 0.95, 30 units: 8 % were promoted without it, 6 % with it.
    """
    return float(student.ppf(share, units - 1)) * math.sqrt(units / (units - 1))


def _resampled(units: int, gate: Gate) -> Iterator[Floats]:
    """Multinomial counts of the units, in batches `(resamples in the batch, units)`."""
    rng = np.random.default_rng(gate.seed)
    batch = max(1, _BATCH // units)
    for start in range(0, gate.resamples, batch):
        size = min(batch, gate.resamples - start)
        draws = rng.integers(0, units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(draws.ravel(), minlength=size * units)
        yield counts.reshape(size, units).astype(np.float64)
