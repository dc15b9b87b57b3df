"""The parameters of model families, as a pipeline file names them: checks and defaults."""

from __future__ import annotations

from typing import Any

from tasks.base.errors import UserError
from tasks.base.problems import Problem, ProblemsError, did_you_mean
from tasks.models import estimators
from tasks.pipeline import families, space
from tasks.pipeline.nodes import ESTIMATOR, Literal
from tasks.pipeline.schema import Pipeline


def defaults(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """The parameters of a family and their defaults.

    Raises:
        UserError: There is no such family, or it cannot do this task.
    """
    task = pipeline.data.task
    family = estimators.get(name)
    if family.estimator_for(task) is None:
        able = [other for other in families.names() if estimators.get(other).estimator_for(task)]
        raise UserError(
            f"The 'estimator' of a {task} search must be one of {', '.join(able)}. "
            f"Got {name!r} instead."
        )
    return family.defaults(task)


def check_space(pipeline: Pipeline) -> None:
    """Refuse a space that names an unknown family or parameter.

    Raises:
        UserError: With every such name.
    """
    problems: list[Problem] = []
    for option in space.options(space.parse(pipeline.search.space)):
        name = space.family(option)
        place = ("search", "space", name)
        try:
            known = defaults(pipeline, name)
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
    """One point per option of the space: fixed values, and the family's defaults for the rest."""
    points = []
    for option in space.options(space.parse(pipeline.search.space)):
        known = defaults(pipeline, space.family(option))
        items = zip(option.keys or (), option.items, strict=True)
        points.append(
            {
                key: item.value if isinstance(item, Literal) else known[key]
                for key, item in items
                if isinstance(item, Literal) or key in known
            }
        )
    return points
