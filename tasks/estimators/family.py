"""What a model family is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from tasks.pipeline.schema import Task

TREE = "sklearn.tree._tree.Tree"


@dataclass(frozen=True)
class Family:
    """A scikit-learn estimator class for each task that the family can do.

    A classifier must have `predict_proba`: the metrics of classification include one of
    probabilities.
    """

    regression: type[BaseEstimator] | None = None
    binary: type[BaseEstimator] | None = None
    multiclass: type[BaseEstimator] | None = None
    trusted_types: tuple[str, ...] = ()
    """Types that skops may load beside its own list. Each was read: it runs no code on loading."""
    threads: str | None = "n_jobs"
    """The parameter for the number of threads, for an estimator that has it."""

    def of(self, task: Task) -> type[BaseEstimator] | None:
        """The class for this task."""
        return {
            "regression": self.regression,
            "binary": self.binary,
            "multiclass": self.multiclass,
        }[task]

    def made(self, estimator: Any) -> bool:
        """Whether the estimator is of this family."""
        return type(estimator) in (self.regression, self.binary, self.multiclass)
