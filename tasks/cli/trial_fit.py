"""`check --deep`: whether each model family accepts the parameters of its space."""

from __future__ import annotations

from random import Random
from typing import Any

from tasks.base.errors import MlopsError
from tasks.base.problems import NOTHING, Problem, ProblemsError
from tasks.pipeline import space
from tasks.pipeline.schema import Column, Pipeline

ROWS = 60
POINTS = 3
"""The points drawn from each family's space."""


def fit_each_family(pipeline: Pipeline) -> None:
    """Fit sampled points on made-up rows.

    Raises:
        ProblemsError: With the message of each family that failed.
    """
    import numpy as np
    import pandas as pd
    from hyperopt.pyll.stochastic import sample

    from tasks.models.fitting import build

    random, rng = Random(0), np.random.default_rng(0)  # noqa: S311 - no secret
    columns = pipeline.data.columns
    table = pd.DataFrame({name: _values(columns[name], random) for name in pipeline.feature_names})
    target = np.array(_target(pipeline, random))
    problems = []
    for option in space.options(space.parse(pipeline.search.space)):
        for _ in range(POINTS):
            params = sample(space.to_hyperopt(option), rng)
            try:
                build(pipeline, params, seed=0, threads=1).fit(table, target)
            except (MlopsError, ValueError, TypeError) as error:
                must = f"contain only parameters that {space.family(option)!r} can be fitted with"
                problems.append(Problem(("search", "space"), must, NOTHING, str(error)))
                break
    if problems:
        raise ProblemsError(f"{pipeline.name}, fitted on made-up rows,", problems)


def _values(column: Column, random: Random) -> list[Any]:
    if column.values:
        known = column.categories if column.type == "category" else column.values
        return random.choices(known or (), k=ROWS)
    if column.type in {"category", "string", "datetime"}:
        return random.choices(("a", "b"), k=ROWS)
    if column.type == "boolean":
        return random.choices((0.0, 1.0), k=ROWS)
    low = column.min if column.min is not None else (column.max or 1.0) - 1.0
    high = column.max if column.max is not None else low + 1.0
    return [random.uniform(low, high) for _ in range(ROWS)]


def _target(pipeline: Pipeline, random: Random) -> list[float]:
    if pipeline.data.task == "regression":
        return [random.gauss() for _ in range(ROWS)]
    classes = 2 if pipeline.data.task == "binary" else 3
    return [float(row % classes) for row in range(ROWS)]
