"""The model of a point: preparation fitted inside it, then the family's estimator."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline as Model
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from tasks import estimators
from tasks.errors import MlopsError, UserError
from tasks.pipeline import space
from tasks.pipeline.nodes import ESTIMATOR, Literal
from tasks.pipeline.problems import Problem, ProblemsError, did_you_mean, listed
from tasks.pipeline.schema import ColumnType, Features, Pipeline

NUMERIC: frozenset[ColumnType] = frozenset({"double", "integer", "boolean"})
SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}
PREPARATION_TYPES = ("numpy.dtype",)
"""SimpleImputer keeps the dtype it was fitted on; skops saves it as an empty array."""


def build(pipeline: Pipeline, params: dict[str, Any], seed: int, threads: int) -> Model:
    """An unfitted model; `fit(X, y)` takes a frame with the pipeline's feature columns.

    `seed` and `threads` go to an estimator that has such parameters and a point that sets neither.
    """
    return Model(
        [("prepare", _preparation(pipeline)), ("model", _make(pipeline, params, seed, threads))]
    )


def trusted_types(model: Model) -> list[str]:
    """The reviewed types that skops needs to load this model; any other makes it refuse."""
    estimator = model.steps[-1][1]
    for name in estimators.names():
        family = estimators.get(name)
        if family.made(estimator):
            return [*PREPARATION_TYPES, *family.trusted_types]
    raise MlopsError(f"No model family makes a {type(estimator).__name__}.")


def estimator_class(pipeline: Pipeline, name: str) -> type[BaseEstimator]:
    """The family's class for the pipeline's task.

    Raises:
        UserError: There is no such family, or it cannot do this task.
    """
    task = pipeline.data.task
    found = estimators.get(name).of(task)
    if found is None:
        able = [known for known in estimators.names() if estimators.get(known).of(task)]
        raise UserError(
            f"The 'estimator' of a {task} search must be one of {', '.join(able)}. "
            f"Got {name!r} instead."
        )
    return found


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
    params: dict[str, Any] = estimator_class(pipeline, name)().get_params(deep=False)
    return params


def _make(pipeline: Pipeline, params: dict[str, Any], seed: int, threads: int) -> BaseEstimator:
    name = str(params[ESTIMATOR])
    estimator = estimator_class(pipeline, name)()
    known = estimator.get_params(deep=False)
    ours = {"random_state": seed, estimators.get(name).threads or "": threads}
    given = {key: _plain(value) for key, value in params.items() if key != ESTIMATOR}
    for key in given:
        if key not in known:
            raise UserError(
                f"{key!r} must be a parameter of {name!r}: {listed(sorted(known))}.",
                fix=did_you_mean(key, known),
            )
    return estimator.set_params(**{k: v for k, v in ours.items() if k in known} | given)


def _plain(value: Any) -> Any:
    """Lists as tuples, as hyperopt gives them: JSON knows only one of the two."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def _preparation(pipeline: Pipeline) -> ColumnTransformer:
    columns = pipeline.data.columns
    numeric = [name for name in pipeline.feature_names if columns[name].type in NUMERIC]
    category = [name for name in pipeline.feature_names if name not in numeric]
    parts = [
        ("numeric", _steps(_numeric(pipeline.features)), numeric),
        ("category", _steps(_category(pipeline.features)), category),
    ]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)


def _numeric(features: Features) -> list[tuple[str, BaseEstimator]]:
    steps: list[tuple[str, BaseEstimator]] = []
    if features.impute.numeric != "none":
        # a column that is all missing stays, as zeros: the estimator's width must not change
        steps.append(
            ("impute", SimpleImputer(strategy=features.impute.numeric, keep_empty_features=True))
        )
    if features.scale != "none":
        steps.append(("scale", SCALERS[features.scale]()))
    return steps


def _category(features: Features) -> list[tuple[str, BaseEstimator]]:
    steps: list[tuple[str, BaseEstimator]] = []
    if features.impute.category != "none":
        steps.append(
            (
                "impute",
                SimpleImputer(strategy=features.impute.category, keep_empty_features=True),
            )
        )
    if features.encode == "onehot":
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    else:
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return [*steps, ("encode", encoder)]


def _steps(steps: list[tuple[str, BaseEstimator]]) -> Model | str:
    return Model(steps) if steps else "passthrough"
