"""The model of a point: preparation fitted inside it, then the family's estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline as Model
from sklearn.utils.class_weight import compute_sample_weight

from tasks.base.errors import MlopsError, UserError
from tasks.base.problems import Problem, ProblemsError, did_you_mean, listed
from tasks.models import estimators, keras_model, rounding, threshold
from tasks.models.preparation import preparation
from tasks.pipeline import families, space
from tasks.pipeline.nodes import ESTIMATOR, Literal
from tasks.pipeline.schema import Pipeline, Tuned, text

CHOSEN = frozenset({"best_epoch", "threshold"})
"""Figures that a trial's validation rows decide, and a refit without such rows must be given."""


@dataclass(frozen=True)
class Rows:
    """Features, `(rows, columns)`, and the truth, `(rows,)`."""

    features: pd.DataFrame
    truth: pd.Series[Any]

    @classmethod
    def of(cls, pipeline: Pipeline, part: pd.DataFrame) -> Rows:
        """What the model sees of a snapshot's rows, and what it should answer."""
        return cls(part[list(pipeline.feature_names)], part[pipeline.data.target])


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and what its validation rows decided, of `CHOSEN`."""

    model: Model
    chosen: dict[str, float]


def fit(  # noqa: PLR0913 - what makes a model, and the rows
    pipeline: Pipeline,
    params: dict[str, Any],
    rows: Rows,
    validation: Rows,
    *,
    seed: int,
    threads: int,
) -> Fitted:
    """Fit on `rows`; `validation` decides when to stop and the threshold, if the file asks."""
    built = build(pipeline, params, seed, threads)
    extra: dict[str, Any] = {}
    if estimators.get(str(params[ESTIMATOR])).validates:
        # Called within `fit`, when the preparation is fitted.
        extra["model__validation"] = lambda: (
            built["prepare"].transform(validation.features),
            validation.truth,
        )
    built.fit(rows.features, rows.truth, **_weights(pipeline, rows.truth), **extra)
    chosen = dict(getattr(inner(built), "chosen_", {}))
    if isinstance(pipeline.threshold, Tuned):
        chosen["threshold"] = threshold.best(
            pipeline.threshold.maximize, built, validation.features, validation.truth
        )
    return Fitted(_decided(pipeline, built, chosen), chosen)


def refit(  # noqa: PLR0913 - the same
    pipeline: Pipeline,
    params: dict[str, Any],
    rows: Rows,
    chosen: dict[str, float],
    *,
    seed: int,
    threads: int,
) -> Model:
    """Fit on `rows` with what the validation rows of the trial decided, now that there are none."""
    family = estimators.get(str(params[ESTIMATOR]))
    decided = {
        parameter: round(chosen[figure])
        for figure, parameter in family.chosen.items()
        if figure in chosen
    }
    built = build(pipeline, params | decided, seed, threads)
    built.fit(rows.features, rows.truth, **_weights(pipeline, rows.truth))
    return _decided(pipeline, built, chosen)


def build(pipeline: Pipeline, params: dict[str, Any], seed: int, threads: int) -> Model:
    """An unfitted model; `fit(X, y)` takes a frame with the pipeline's feature columns.

    `seed` and `threads` go to an estimator that has such parameters and a point that sets neither.
    """
    estimator = _make(pipeline, params, seed, threads)
    if pipeline.rounded:
        estimator = rounding.rounded(estimator)
    return Model([("prepare", preparation(pipeline)), ("model", estimator)])


def inner(fitted: Model) -> Any:
    """The family's estimator in a fitted model, whatever the file put around it."""
    return rounding.inner(threshold.inner(fitted["model"]))


def trusted_types(model: Model) -> list[str]:
    """The reviewed types that skops needs to load this model; any other makes it refuse."""
    estimator = inner(model)
    for name in families.names():
        family = estimators.get(name)
        if family.made(estimator):
            return [*keras_model.TRUSTED_TYPES, *threshold.TRUSTED_TYPES, *family.trusted_types]
    raise MlopsError(f"No model family makes a {type(estimator).__name__}.")


def check(pipeline: Pipeline) -> None:
    """Refuse a space that names a family or a parameter that there is not.

    Raises:
        UserError: With every such name.
    """
    problems: list[Problem] = []
    for option in space.options(space.parse(pipeline.search.space)):
        name = space.family(option)
        place = ("search", "space", name)
        try:
            known = _defaults(pipeline, name)
        except UserError as err:
            problems.append(Problem(place, "be a family that fits", name, fix=str(err)))
            continue
        problems += [
            Problem((*place, key), f"be a parameter of {name}", key, fix=did_you_mean(key, known))
            for key in option.keys or ()
            if key != ESTIMATOR and key not in known
        ]
    if problems:
        raise ProblemsError(f"The pipeline {pipeline.name}", problems)


def default_points(pipeline: Pipeline) -> list[dict[str, Any]]:
    """For each option of the space its parameters, with the family's default where it is open."""
    points = []
    for option in space.options(space.parse(pipeline.search.space)):
        known = _defaults(pipeline, space.family(option))
        items = zip(option.keys or (), option.items, strict=True)
        points.append(
            {
                key: item.value if isinstance(item, Literal) else known[key]
                for key, item in items
                if isinstance(item, Literal) or key in known
            }
        )
    return points


def _defaults(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """The family's parameters, as the file names them.

    Raises:
        UserError: There is no such family, or it cannot do this task.
    """
    task = pipeline.data.task
    family = estimators.get(name)
    if family.of(task) is None:
        able = [known for known in families.names() if estimators.get(known).of(task)]
        raise UserError(
            f"The 'estimator' of a {task} search must be one of {', '.join(able)}. "
            f"Got {name!r} instead."
        )
    return family.defaults(task)


def _make(pipeline: Pipeline, params: dict[str, Any], seed: int, threads: int) -> BaseEstimator:
    name = str(params[ESTIMATOR])
    known, family = _defaults(pipeline, name), estimators.get(name)
    ours = {"random_state": seed, family.threads or "": threads}
    given = {key: _plain(value) for key, value in params.items() if key != ESTIMATOR}
    for key in given:
        if key not in known:
            raise UserError(
                f"{key!r} must be a parameter of {name!r}: {listed(sorted(known))}.",
                fix=did_you_mean(key, known),
            )
    return family.make(pipeline.data.task, {k: v for k, v in ours.items() if k in known} | given)


def check_class_weights(pipeline: Pipeline, truth: pd.Series[Any]) -> None:
    """Whether the file weighs just the classes that there are.

    Raises:
        UserError: It does not.
    """
    weights = pipeline.data.class_weights
    if weights is None or isinstance(weights, str):
        return
    found = {_label(pipeline, value) for value in truth.unique()}
    if found != weights.keys():
        raise UserError(
            f"The 'data.class_weights' must name the classes of {pipeline.data.target!r}, "
            f"{listed(sorted(found))}. Got {listed(sorted(weights))} instead."
        )


def _weights(pipeline: Pipeline, truth: pd.Series[Any]) -> dict[str, Any]:
    """Weights of the rows by their class, as `fit` takes them."""
    weights: Any = pipeline.data.class_weights
    if weights is None:
        return {}
    if weights != "balanced":
        weights = {one: weights[_label(pipeline, one)] for one in truth.unique()}
    return {"model__sample_weight": compute_sample_weight(weights, truth)}


def _label(pipeline: Pipeline, value: Any) -> str:
    """A class as the file names it."""
    if pipeline.data.columns[pipeline.data.target].type == "boolean":
        return "true" if value else "false"
    return text(value)


def _decided(pipeline: Pipeline, fitted: Model, chosen: dict[str, float]) -> Model:
    """The model with its threshold, where the file wants another than one half."""
    if isinstance(pipeline.threshold, Tuned):
        return threshold.applied(fitted, chosen["threshold"])
    return fitted if pipeline.threshold == 0.5 else threshold.applied(fitted, pipeline.threshold)


def _plain(value: Any) -> Any:
    """Lists as tuples, as hyperopt gives them: JSON knows only one of the two."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value
