"""How much each parameter matters, by scikit-learn's permutation importance of a forest.

The forest learns a trial's rank, not its figure: a single outlier would dominate the figures. Each
family has a forest of its own, because families do not share parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from tasks.records.report.columns import families, varying
from tasks.records.trials.table import Trial

FEWEST = 10
"""Finished trials needed to say anything."""
LEAST = 0.1
"""Least explained share of the ranks; below it the shares of single parameters are chance."""
TREES, REPEATS = 50, 5


@dataclass(frozen=True)
class Importance:
    """What the parameters of one family, or the choice of the family, explain of the ranks."""

    subject: str
    trials: int
    explained: float | None = None
    """Out-of-bag R² of the forest, at least 0; None if nothing can be said, and `why` says why."""
    shares: tuple[tuple[str, float], ...] = ()
    """Parameters with their share of what is explained, largest first; empty below `LEAST`."""
    why: str = ""


def of_families(ranking: Sequence[Trial]) -> Importance | None:
    """The importance of the choice of the family; None with a single family."""
    names = list(families(ranking))
    if len(names) < 2:
        return None
    if len(ranking) < FEWEST:
        return _too_few("family", ranking)
    features = np.array([[float(trial.family == name) for name in names] for trial in ranking])
    return Importance("family", len(ranking), _explained(_forest(features, _ranks(ranking))))


def of_parameters(
    family: str, ranking: Sequence[Trial], logs: set[tuple[str, str]]
) -> Importance | None:
    """The importance of a family's parameters, from its finished trials; None if none varies."""
    columns = varying(ranking, logs)
    if not columns:
        return None
    if len(ranking) < FEWEST:
        return _too_few(family, ranking)
    features, ranks = np.column_stack([column.numbers() for column in columns]), _ranks(ranking)
    if not np.ptp(ranks):
        return Importance(family, len(ranking), why="All its trials have the same figure.")
    forest = _forest(features, ranks)
    explained = _explained(forest)
    if explained < LEAST:
        return Importance(family, len(ranking), explained)
    permuted = permutation_importance(forest, features, ranks, n_repeats=REPEATS, random_state=0)
    gains = np.maximum(permuted.importances_mean, 0)
    parts = gains / gains.sum() if gains.sum() else gains
    shares = sorted(
        zip((column.name for column in columns), map(float, parts), strict=True),
        key=lambda share: -share[1],
    )
    return Importance(family, len(ranking), explained, tuple(shares))


def _forest(features: NDArray[np.float64], ranks: NDArray[np.float64]) -> RandomForestRegressor:
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, oob_score=True, random_state=0)
    return forest.fit(features, ranks)


def _explained(forest: RandomForestRegressor) -> float:
    return max(0.0, float(np.nan_to_num(forest.oob_score_)))


def _ranks(ranking: Sequence[Trial]) -> NDArray[np.float64]:
    """Equal figures have equal ranks."""
    _, ranks = np.unique([trial.loss for trial in ranking], return_inverse=True)
    return ranks.astype(float)


def _too_few(subject: str, ranking: Sequence[Trial]) -> Importance:
    why = f"Too few finished trials to tell: {len(ranking)} of at least {FEWEST}."
    return Importance(subject, len(ranking), why=why)
