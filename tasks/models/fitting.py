"""Fits the model of a point: the preparation, then the family's estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline as Model
from sklearn.utils.class_weight import compute_sample_weight

from tasks.base.errors import MlopsError, UserError
from tasks.base.problems import did_you_mean, listed
from tasks.models import estimators, keras_model, parameters, rounding, threshold
from tasks.models.preparation import preparation
from tasks.pipeline import families
from tasks.pipeline.nodes import ESTIMATOR
from tasks.pipeline.schema import Pipeline, Tuned, text

CHOSEN = frozenset({"best_epoch", "threshold"})
"""Figures that a trial's validation rows decide and that a refit needs."""


@dataclass(frozen=True)
class Rows:
    """Features, `(rows, columns)`, and target, `(rows,)`."""

    features: pd.DataFrame
    truth: pd.Series[Any]

    @classmethod
    def from_part(cls, pipeline: Pipeline, part: pd.DataFrame) -> Rows:
        """The features and the target of a snapshot's rows."""
        return cls(part[list(pipeline.feature_names)], part[pipeline.data.target])


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and those of `CHOSEN` that its validation rows decided."""

    model: Model
    chosen: dict[str, float]


def fit(  # noqa: PLR0913 - all that makes a model
    pipeline: Pipeline,
    params: dict[str, Any],
    rows: Rows,
    validation: Rows,
    *,
    seed: int,
    threads: int,
) -> Fitted:
    """Fit on `rows`; if the file asks, `validation` decides when to stop, and the threshold."""
    model = build(pipeline, params, seed, threads)
    extra: dict[str, Any] = {}
    if estimators.get(str(params[ESTIMATOR])).validates:
        # Called inside `fit`, once the preparation is fitted.
        extra["model__validation"] = lambda: (
            model["prepare"].transform(validation.features),
            validation.truth,
        )
    model.fit(rows.features, rows.truth, **_weights(pipeline, rows.truth), **extra)
    chosen = dict(getattr(inner(model), "chosen_", {}))
    if isinstance(pipeline.threshold, Tuned):
        chosen["threshold"] = threshold.best(
            pipeline.threshold.maximize, model, validation.features, validation.truth
        )
    return Fitted(_with_threshold(pipeline, model, chosen), chosen)


def refit(  # noqa: PLR0913 - all that makes a model
    pipeline: Pipeline,
    params: dict[str, Any],
    rows: Rows,
    chosen: dict[str, float],
    *,
    seed: int,
    threads: int,
) -> Model:
    """Fit on `rows`, without validation rows: `chosen` is what those of the trial decided."""
    family = estimators.get(str(params[ESTIMATOR]))
    decided = {
        parameter: round(chosen[figure])
        for figure, parameter in family.chosen.items()
        if figure in chosen
    }
    model = build(pipeline, params | decided, seed, threads)
    model.fit(rows.features, rows.truth, **_weights(pipeline, rows.truth))
    return _with_threshold(pipeline, model, chosen)


def build(pipeline: Pipeline, params: dict[str, Any], seed: int, threads: int) -> Model:
    """An unfitted model; `fit(X, y)` takes a frame with the pipeline's feature columns.

    `seed` and `threads` are used if the estimator has such parameters and `params` sets neither.
    """
    estimator = _make(pipeline, params, seed, threads)
    if pipeline.rounded:
        estimator = rounding.with_rounding(estimator)
    return Model([("prepare", preparation(pipeline)), ("model", estimator)])


def inner(fitted: Model) -> Any:
    """The family's estimator in a fitted model, without threshold and rounding."""
    return rounding.inner(threshold.inner(fitted["model"]))


def trusted_types(model: Model) -> list[str]:
    """The reviewed types that skops may load for this model; it refuses any other."""
    estimator = inner(model)
    for name in families.names():
        family = estimators.get(name)
        if family.makes(estimator):
            return [*keras_model.TRUSTED_TYPES, *threshold.TRUSTED_TYPES, *family.trusted_types]
    raise MlopsError(f"No model family makes a {type(estimator).__name__}.")


def _make(pipeline: Pipeline, params: dict[str, Any], seed: int, threads: int) -> BaseEstimator:
    name = str(params[ESTIMATOR])
    known, family = parameters.defaults(pipeline, name), estimators.get(name)
    ours = {"random_state": seed, family.threads or "": threads}
    point = {key: _tuples(value) for key, value in params.items() if key != ESTIMATOR}
    for key in point:
        if key not in known:
            raise UserError(
                f"{key!r} must be a parameter of {name!r}: {listed(sorted(known))}.",
                fix=did_you_mean(key, known),
            )
    return family.make(pipeline.data.task, {k: v for k, v in ours.items() if k in known} | point)


def check_class_weights(pipeline: Pipeline, truth: pd.Series[Any]) -> None:
    """Check that the file gives a weight to each class that occurs and to no other.

    Raises:
        UserError: It does not.
    """
    weights = pipeline.data.class_weights
    if weights is None or isinstance(weights, str):
        return
    classes = {_label(pipeline, value) for value in truth.unique()}
    if classes != weights.keys():
        raise UserError(
            f"The 'data.class_weights' must name the classes of {pipeline.data.target!r}, "
            f"{listed(sorted(classes))}. Got {listed(sorted(weights))} instead."
        )


def _weights(pipeline: Pipeline, truth: pd.Series[Any]) -> dict[str, Any]:
    """Keywords for `fit` with the weight of each row, by its class."""
    weights: Any = pipeline.data.class_weights
    if weights is None:
        return {}
    if weights != "balanced":
        weights = {value: weights[_label(pipeline, value)] for value in truth.unique()}
    return {"model__sample_weight": compute_sample_weight(weights, truth)}


def _label(pipeline: Pipeline, value: Any) -> str:
    """A class as the file names it."""
    if pipeline.data.columns[pipeline.data.target].type == "boolean":
        return "true" if value else "false"
    return text(value)


def _with_threshold(pipeline: Pipeline, fitted: Model, chosen: dict[str, float]) -> Model:
    """The model with its threshold, unless that is one half."""
    if isinstance(pipeline.threshold, Tuned):
        return threshold.apply(fitted, chosen["threshold"])
    return fitted if pipeline.threshold == 0.5 else threshold.apply(fitted, pipeline.threshold)


def _tuples(value: Any) -> Any:
    """Lists as tuples, as hyperopt gives them: JSON has only lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
