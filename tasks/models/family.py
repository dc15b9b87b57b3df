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
    """A parameter that the family's files know by another name and scale than the estimator."""

    replaces: str
    """The estimator's parameter."""
    default: Any
    value: Callable[[Any], Any]
    """From the file's value to the estimator's."""


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
    own: Mapping[str, Own] = field(default_factory=dict)
    """Parameters under names of the family's own."""
    validates: bool = False
    """Whether `fit` takes `validation`, a function that gives `(X, y)` to stop early on."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Figures that the validation rows decide (the estimator's `chosen_`), each with the parameter
    that a fit without such rows must be given it for."""

    def of(self, task: Task) -> type[BaseEstimator] | None:
        """The class for this task."""
        return {
            "regression": self.regression,
            "binary": self.binary,
            "multiclass": self.multiclass,
        }[task]

    def defaults(self, task: Task) -> dict[str, Any]:
        """The parameters for this task, under the names of the file, with their defaults."""
        estimator = self.of(task)
        assert estimator is not None
        replaced = {own.replaces for own in self.own.values()}
        known = {
            name: value
            for name, value in estimator().get_params(deep=False).items()
            if name not in replaced
        }
        return known | {name: own.default for name, own in self.own.items()}

    def make(self, task: Task, params: Mapping[str, Any]) -> BaseEstimator:
        """The estimator with these parameters, which have the names of the file."""
        estimator = self.of(task)
        assert estimator is not None
        translated = {}
        for name, value in params.items():
            own = self.own.get(name)
            translated[own.replaces if own else name] = own.value(value) if own else value
        return estimator().set_params(**translated)

    def made(self, estimator: Any) -> bool:
        """Whether the estimator is of this family."""
        return type(estimator) in (self.regression, self.binary, self.multiclass)
