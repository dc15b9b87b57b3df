"""Rounds predictions to whole numbers, for targets that are counts or scores.

The median minimises the absolute error, and for such a target it is a whole number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor


def with_rounding(estimator: BaseEstimator) -> TransformedTargetRegressor:
    """The unfitted estimator with rounded predictions; it still learns the target unrounded."""
    return TransformedTargetRegressor(
        estimator, func=np.positive, inverse_func=np.rint, check_inverse=False
    )


def is_rounded(estimator: Any) -> bool:
    """Whether `with_rounding` made it."""
    return isinstance(estimator, TransformedTargetRegressor)


def inner(estimator: Any) -> Any:
    """The family's fitted estimator, without the wrapper of `with_rounding` if it has one."""
    return estimator.regressor_ if is_rounded(estimator) else estimator
