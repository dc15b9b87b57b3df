"""What a model family is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import BaseEstimator

from tasks.pipeline.metrics import Task

TREE = "sklearn.tree._tree.Tree"


@dataclass(frozen=True)
class Own:
    """A parameter whose name and scale in a pipeline file are not the estimator's."""

    replaces: str
    """The estimator's parameter."""
    default: Any
    value: Callable[[Any], Any]
    """Converts the file's value to the estimator's."""


@dataclass(frozen=True)
class Family:
    """A scikit-learn estimator class for each task that the family can do.

    A classifier must have `predict_proba`: some metrics of classification need probabilities.
    """

    regression: type[BaseEstimator] | None = None
    binary: type[BaseEstimator] | None = None
    multiclass: type[BaseEstimator] | None = None
    trusted_types: tuple[str, ...] = ()
    """Types that skops may load in addition to its own. Reviewed: they run no code on loading."""
    threads: str | None = "n_jobs"
    """The estimator's parameter for the number of threads, if it has one."""
    own: Mapping[str, Own] = field(default_factory=dict)
    """Parameters that the family renames, by their names in the file."""
    validates: bool = False
    """Whether `fit` takes `validation`, a function that returns `(X, y)` for early stopping."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Figures that the validation rows decide (the estimator's `chosen_`), each with the parameter
    that takes it in a fit without validation rows."""

    def estimator_for(self, task: Task) -> type[BaseEstimator] | None:
        """The class for this task."""
        return {
            "regression": self.regression,
            "binary": self.binary,
            "multiclass": self.multiclass,
        }[task]

    def defaults(self, task: Task) -> dict[str, Any]:
        """The parameters for this task, by their names in the file, with their defaults."""
        estimator = self.estimator_for(task)
        assert estimator is not None
        replaced = {own.replaces for own in self.own.values()}
        known = {
            name: value
            for name, value in estimator().get_params(deep=False).items()
            if name not in replaced
        }
        return known | {name: own.default for name, own in self.own.items()}

    def make(self, task: Task, params: Mapping[str, Any]) -> BaseEstimator:
        """The estimator with these parameters, given by their names in the file."""
        estimator = self.estimator_for(task)
        assert estimator is not None
        translated = {}
        for name, value in params.items():
            own = self.own.get(name)
            translated[own.replaces if own else name] = own.value(value) if own else value
        return estimator().set_params(**translated)

    def makes(self, estimator: Any) -> bool:
        """Whether the estimator is of this family."""
        return type(estimator) in (self.regression, self.binary, self.multiclass)
