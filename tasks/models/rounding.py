"""Whole numbers as answers, for targets that are counts or scores.

What makes the absolute error smallest is the median, which for such a target is a whole number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor


def rounded(estimator: BaseEstimator) -> TransformedTargetRegressor:
    """The unfitted estimator with its answers rounded; it learns the target as it is."""
    return TransformedTargetRegressor(
        estimator, func=np.positive, inverse_func=np.rint, check_inverse=False
    )


def is_rounded(estimator: Any) -> bool:
    """Whether `rounded` made it."""
    return isinstance(estimator, TransformedTargetRegressor)


def inner(estimator: Any) -> Any:
    """The family's fitted estimator in one that `rounded` may have wrapped."""
    return estimator.regressor_ if is_rounded(estimator) else estimator
