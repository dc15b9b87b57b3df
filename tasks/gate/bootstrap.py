"""The paired bootstrap: the confidence interval of an improvement, for rows that depend by unit."""

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
"""How often the smallest detectable improvement would be shown."""
MOST_UNDEFINED = 0.05
"""Largest share of undefined resamples; the rest contain every class and understate the variance.

Measured with six classes, three of them rare, 80 units and equal models: 5 % were promoted with no
more undefined resamples than this, 10 % with up to 20 %, and 17 % with more.
"""
TRAINING_VARIANCE = 2.0
"""Variance of two trainings, as a multiple of the test rows' variance times tested / trained.

1 is enough for models that are smooth in their parameters (Nadeau and Bengio, Inference for the
Generalization Error, Machine Learning 52, 2003). Networks with random starts and early stopping
reach 1.7: measured on the wines by benchmarks/gate.py, see docs/architecture.md.
"""
_BATCH = 2**21  # draws in memory at once: 16 MB


class NoValueError(Exception):
    """The metric is undefined on too many resamples, as one of ranks is without some class."""

    def __init__(self, undefined: float) -> None:
        super().__init__(
            f"it is undefined on {100 * undefined:.3g} % of the resamples, "
            f"more than {100 * MOST_UNDEFINED:g} %"
        )


class Improvement(BaseModel):
    """How much better the challenger is; positive is better whatever the metric's direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    estimate: float
    lower: float
    """The improvement is greater than this with `confidence`."""
    upper: float
    """The improvement is less than this with `confidence`."""
    standard_error: float
    detectable: float
    """The smallest improvement that would be shown in a share `power` of cases."""
    power: float
    confidence: float
    widening: float
    """How much wider the interval is for training variance."""
    resamples: int
    seed: int


def improvement(  # noqa: PLR0913 - two models, the units and the method
    challenger: Statistic,
    opponent: Statistic,
    units: int,
    direction: Literal["minimize", "maximize"],
    gate: Gate,
    *,
    trained: float = math.inf,
) -> Improvement:
    """Expanded percentile bootstrap of the difference; both are scored on the same drawn units.

    `trained` is the number of units that the challenger was trained on. The fewer they are per unit
    tested on, the more of a difference is training variance, for which the interval is widened by
    sqrt(1 + TRAINING_VARIANCE * tested / trained). benchmarks/gate.py measures the effect.

    Raises:
        NoValueError: The metric is undefined on more than `MOST_UNDEFINED` of the resamples.
    """
    sign = 1.0 if direction == "maximize" else -1.0

    def difference(counts: Floats) -> Floats:
        return sign * (challenger(counts) - opponent(counts))

    differences = np.concatenate([difference(counts) for counts in _resample(units, gate)])
    defined = np.isfinite(differences)
    if (undefined := 1 - float(np.mean(defined))) > MOST_UNDEFINED:
        raise NoValueError(undefined)
    differences = differences[defined]
    widening = math.sqrt(1 + TRAINING_VARIANCE * units / trained)
    tail = NormalDist().cdf(widening * _quantile(1 - gate.confidence, units))
    lower, upper = np.quantile(differences, [tail, 1 - tail])
    error = float(np.std(differences, ddof=1))
    errors_needed = _quantile(gate.confidence, units) + _quantile(POWER, units)
    return Improvement(
        estimate=float(difference(np.ones((1, units)))[0]),
        lower=float(lower),
        upper=float(upper),
        standard_error=error,
        detectable=widening * errors_needed * error,
        power=POWER,
        confidence=gate.confidence,
        widening=widening,
        resamples=gate.resamples,
        seed=gate.seed,
    )


def _quantile(share: float, units: int) -> float:
    """A quantile in standard errors, which a bootstrap of few units underestimates.

    Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69 (2015).
    Measured with equal models, confidence 0.95 and 30 units: 6 % were promoted, 8 % without it.
    """
    return float(student.ppf(share, units - 1)) * math.sqrt(units / (units - 1))


def _resample(units: int, gate: Gate) -> Iterator[Floats]:
    """Multinomial counts of the units, in batches `(resamples in the batch, units)`."""
    rng = np.random.default_rng(gate.seed)
    batch = max(1, _BATCH // units)
    for start in range(0, gate.resamples, batch):
        size = min(batch, gate.resamples - start)
        draws = rng.integers(0, units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(draws.ravel(), minlength=size * units)
        yield counts.reshape(size, units).astype(np.float64)
