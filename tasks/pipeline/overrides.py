"""What one run may change in its pipeline: the parameters of the trigger form and of `--set`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.base.problems import Problem, ProblemsError, did_you_mean, listed
from tasks.pipeline import document
from tasks.pipeline.checks import check, explain
from tasks.pipeline.schema import Algorithm, GateMode, Pipeline

WHERE = "The run's configuration"


class Overrides(BaseModel):
    """Parameters of one run; None keeps the file's value."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    trials: int | None = None
    slots: int | None = None
    seed: int | None = None
    algorithm: Algorithm | None = None
    trial_timeout: float | None = None
    timeout: float | None = None
    points: tuple[dict[str, Any], ...] | None = None
    snapshot: str | None = None
    """The data: the URI of an earlier snapshot's manifest."""
    gate_mode: GateMode | None = None
    force: bool = False
    """`true`: train even if the same data, file and code made the version that serves, an earlier
    champion, or a version that the gate or the build rejected."""


FIELDS = {
    name: ("search", name)
    for name in ("trials", "slots", "seed", "algorithm", "trial_timeout", "timeout", "points")
} | {"gate_mode": ("gate", "mode")}
"""The field of the file that a parameter replaces."""


def resolve(pipeline: Pipeline, overrides: Overrides) -> Pipeline:
    """The pipeline as this run uses it.

    Raises:
        ProblemsError: The new values do not fit; fields are named as in the form.
    """
    values = {place: getattr(overrides, name) for name, place in FIELDS.items()}
    changes = {place: value for place, value in values.items() if value is not None}
    if not changes:
        return pipeline
    raw = pipeline.model_dump()
    for (section, key), value in changes.items():
        raw[section][key] = value
    result = check(raw, None)
    if isinstance(result, list):
        raise ProblemsError(WHERE, [_as_in_form(problem) for problem in result])
    return result


def parse(raw: Mapping[str, Any]) -> Overrides:
    """Overrides from plain values, such as the conf of a DAG run.

    Raises:
        ProblemsError: With everything that is wrong.
    """
    try:
        return Overrides.model_validate(raw)
    except ValidationError as error:
        raise ProblemsError(WHERE, explain(error, Overrides, raw)) from None


def parse_set(settings: Iterable[str]) -> Overrides:
    """Overrides from the command line's `NAME=VALUE`; a value is read as YAML.

    Raises:
        ProblemsError: With everything that is wrong.
    """
    known = list(Overrides.model_fields)
    raw: dict[str, Any] = {}
    problems: list[Problem] = []
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            problems.append(Problem((setting,), "be NAME=VALUE", setting))
        elif name not in known:
            fix = did_you_mean(name, known)
            problems.append(Problem((name,), f"be one of {listed(known)}", name, fix))
        elif name in raw:
            problems.append(Problem((name,), "be given once", text))
        else:
            try:
                raw[name] = document.parse(text).data
            except ProblemsError as error:
                problems += [problem.below((name,)) for problem in error.problems]
    try:
        overrides = parse(raw)
    except ProblemsError as error:
        problems += error.problems
    if problems:
        raise ProblemsError(WHERE, problems)
    return overrides


def _as_in_form(problem: Problem) -> Problem:
    for name, place in FIELDS.items():
        if problem.field[: len(place)] == place:
            return dataclasses.replace(problem, field=(name, *problem.field[len(place) :]))
    return problem
