"""From plain values to a checked `Pipeline`, or to all of its problems at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path as Folder
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks.base.problems import NOTHING, Path, Problem, did_you_mean, dotted, listed
from tasks.pipeline import space
from tasks.pipeline.data_rules import Rule, check_preparation
from tasks.pipeline.rules import RULES
from tasks.pipeline.schema import MOST_TRIALS, PATTERNS, Pipeline, Section, WrongFieldError

WORDS = {
    "missing": "be given",
    "string_type": "be text",
    "int_type": "be an integer",
    "int_parsing": "be an integer",
    "int_from_float": "be an integer",
    "float_type": "be a number",
    "float_parsing": "be a number",
    "finite_number": "be finite",
    "bool_type": "be true or false",
    "bool_parsing": "be true or false",
    "dict_type": "be a mapping",
    "model_type": "be a mapping",
    "tuple_type": "be a list",
    "greater_than": "be greater than {gt:g}",
    "greater_than_equal": "be at least {ge:g}",
    "less_than": "be less than {lt:g}",
    "less_than_equal": "be at most {le:g}",
    "too_short": "have at least {min_length} item",
    "literal_error": "be {expected}",
}


def check(raw: Mapping[str, Any], folder: Folder | None) -> Pipeline | list[Problem]:
    """The pipeline, or everything that is wrong; `folder` holds its preparation module."""
    problems: list[Problem] = []
    try:
        pipeline = Pipeline.model_validate(raw)
    except ValidationError as error:
        problems = explain(error, Pipeline, raw)
        pipeline = _without([problem.field for problem in problems], raw, Pipeline)
    rules: list[Rule] = [*RULES, functools.partial(check_preparation, folder=folder)]
    for rule in rules:
        with suppress(WrongFieldError):
            problems.extend(rule(pipeline))
    return problems or _with_whole_grid(pipeline, raw)


def _without(wrong: Collection[Path], raw: Any, kind: Any, path: Path = ()) -> Any:
    """The value as this kind; its sections raise `WrongFieldError` for the fields that are wrong.

    Raises:
        WrongFieldError: The value itself is wrong, and is not a section.
    """
    if not any(_is_in(field, path) for field in wrong):
        return TypeAdapter(kind).validate_python(raw)
    if isinstance(kind, type) and issubclass(kind, Section):
        return _section_without(wrong, raw, kind, path)
    if path not in wrong and get_origin(kind) is dict:
        return _items_without(wrong, raw, dict.fromkeys(raw, get_args(kind)[1]), path)
    if path not in wrong and get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return tuple(_without(wrong, value, item, (*path, i)) for i, value in enumerate(raw))
    raise WrongFieldError(dotted(path))


def _section_without(wrong: Collection[Path], raw: Any, kind: type[Section], path: Path) -> Section:
    section = kind.model_construct()
    if not isinstance(raw, Mapping):
        section.__dict__.clear()
        return section
    kinds = {name: field.annotation for name, field in kind.model_fields.items() if name in raw}
    defaults = {name: value for name, value in section if name not in kinds}
    section.__dict__ = defaults | _items_without(wrong, raw, kinds, path)
    return section


def _items_without(
    wrong: Collection[Path], raw: Mapping[str, Any], kinds: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    items = {}
    for key, kind in kinds.items():
        with suppress(WrongFieldError):
            items[key] = _without(wrong, raw[key], kind, (*path, key))
    return items


def _with_whole_grid(pipeline: Pipeline, raw: Mapping[str, Any]) -> Pipeline:
    """By default a grid is evaluated whole."""
    search = pipeline.search
    if search.algorithm != "grid" or "trials" in raw["search"]:
        return pipeline
    size = space.grid(space.parse(search.space)).size
    whole = search.model_copy(update={"trials": min(size, MOST_TRIALS)})
    return pipeline.model_copy(update={"search": whole})


def explain(error: ValidationError, model: type[BaseModel], raw: Any) -> list[Problem]:
    """Pydantic's errors as problems, one for each field."""
    merged: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False, include_context=True):
        problem = _problem(detail, model, raw)
        if problem.field in merged:  # an error of another member of a union
            other = merged[problem.field]
            if problem.must not in other.must:
                must = f"{other.must} or {problem.must.removeprefix('be ')}"
                merged[problem.field] = Problem(problem.field, must, problem.got, other.fix)
        else:
            merged[problem.field] = problem
    return [
        problem
        for field, problem in merged.items()
        if not any(_is_in(other, field) and other != field for other in merged)
    ]


def _problem(detail: Any, model: type[BaseModel], raw: Any) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    field = _field(detail["loc"], raw, missing=kind == "missing")
    if kind == "extra_forbidden":
        known = _known(model, field[:-1])
        fix = did_you_mean(field[-1], known)
        must = f"be one of the known keys {listed(known)}"
        return Problem(field, must, str(field[-1]), fix)
    if kind == "string_pattern_mismatch":
        return Problem(field, PATTERNS[context["pattern"]], detail["input"])
    must = WORDS[kind].format(**context) if kind in WORDS else f"be valid: {detail['msg']}"
    got = NOTHING if kind == "missing" else detail["input"]
    fix = ""
    if kind == "literal_error":
        fix = did_you_mean(got, re.findall(r"'([^']*)'", context["expected"]))
    if kind == "string_type" and isinstance(got, int | float):
        fix = "Put it in quotes."
    return Problem(field, must, got, fix)


def _field(location: Iterable[str | int], raw: Any, *, missing: bool) -> Path:
    """Pydantic's location without the names of union members, which are not keys."""
    parts = list(location)
    field: list[str | int] = []
    value = raw
    for i, part in enumerate(parts):
        try:
            value = value[part]
        except (LookupError, TypeError):
            if not (missing and i == len(parts) - 1):
                continue
        field.append(part)
    return tuple(field)


def _known(model: type[BaseModel], path: Path) -> list[str]:
    """The keys of the section at `path`."""
    for part in path:
        info = model.model_fields.get(str(part))
        model = next(_models(info.annotation), model) if info else model
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _is_in(field: Path, outer: Path) -> bool:
    return field[: len(outer)] == outer
