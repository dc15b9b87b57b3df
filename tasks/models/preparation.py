"""The preparation of features, fitted inside the model on training rows only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline as Model
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from tasks.pipeline.schema import ColumnType, Features, Pipeline

NUMERIC: frozenset[ColumnType] = frozenset({"double", "integer", "boolean"})
SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}
NULL = "\x1fnull"
"""Stands for a missing category inside the preparation; no text in a table begins like this."""


def preparation(pipeline: Pipeline) -> ColumnTransformer:
    """Imputation, scaling and encoding of the feature columns, not yet fitted."""
    columns = pipeline.data.columns
    numeric = [name for name in pipeline.feature_names if columns[name].type in NUMERIC]
    category = [name for name in pipeline.feature_names if name not in numeric]
    learned = [name for name in category if columns[name].values is None]
    declared = [name for name in category if columns[name].values is not None]
    parts = [
        ("numeric", _steps(_numeric(pipeline.features)), numeric),
        ("category", _steps(_category(pipeline.features, "auto")), learned),
        (
            "declared",
            _steps(_category(pipeline.features, [_known(pipeline, name) for name in declared])),
            declared,
        ),
    ]
    return ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)


def _numeric(features: Features) -> list[tuple[str, BaseEstimator]]:
    steps: list[tuple[str, BaseEstimator]] = []
    if features.impute.numeric != "none":
        # Keep a column without values, as zeros: the estimator's width must not change.
        steps.append(
            ("impute", SimpleImputer(strategy=features.impute.numeric, keep_empty_features=True))
        )
    if features.scale != "none":
        steps.append(("scale", SCALERS[features.scale]()))
    return steps


def _known(pipeline: Pipeline, name: str) -> NDArray[Any]:
    """The declared categories of a column, in the file's order, and null if it may occur."""
    column = pipeline.data.columns[name]
    missing = column.nullable and pipeline.features.impute.category == "none"
    return np.array([*(column.categories or ()), *([np.nan] if missing else [])], dtype=object)


def _category(
    features: Features, categories: str | list[NDArray[Any]]
) -> list[tuple[str, BaseEstimator]]:
    if features.encode == "onehot":
        encoder = OneHotEncoder(categories=categories, handle_unknown="ignore", sparse_output=False)
    else:
        encoder = OrdinalEncoder(
            categories=categories, handle_unknown="use_encoded_value", unknown_value=-1
        )
    return [*_filled(features), ("encode", encoder)]


def _filled(features: Features) -> list[tuple[str, BaseEstimator]]:
    """Imputation of both nulls: NaN in a snapshot, None in a request's JSON.

    An imputer knows one missing value, and encoders treat None as a category. These steps are
    scikit-learn's own, so the model loads without our code and without more trusted types.
    """
    strategy = features.impute.category
    marked = {"strategy": "constant", "fill_value": NULL, "keep_empty_features": True}
    imputer = SimpleImputer(
        missing_values=NULL,
        strategy="constant" if strategy == "none" else strategy,
        fill_value=np.nan,
        keep_empty_features=True,
    )
    return [
        ("nan", SimpleImputer(missing_values=np.nan, **marked)),
        ("none", SimpleImputer(missing_values=None, **marked)),
        ("impute", imputer),
    ]


def _steps(steps: list[tuple[str, BaseEstimator]]) -> Model | str:
    return Model(steps) if steps else "passthrough"
