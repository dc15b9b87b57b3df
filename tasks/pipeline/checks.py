"""From plain values to a checked `Pipeline`: all problems at once, in our words."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path as Folder
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tasks.base.problems import NOTHING, Path, Problem, did_you_mean, listed
from tasks.pipeline import space
from tasks.pipeline.rules import broken
from tasks.pipeline.schema import MOST_TRIALS, Pipeline

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
PATTERNS = {
    "name": "be lower-case letters, digits and _, a letter first, at most 63 characters",
    "prepare": "be MODULE:FUNCTION",
    "connection": "be letters, digits, _, - and .",
    "sha256": "be 64 hexadecimal digits in lower case",
    "memory": "be a whole number with m or g behind it, e.g. 512m or 2g",
    "model_size": "be a whole number with k, m or g behind it, e.g. 50m",
    "trial_memory": "be a whole number with m or g behind it, e.g. 512m or 4g",
}


def check(raw: Mapping[str, Any], folder: Folder | None) -> Pipeline | list[Problem]:
    """The pipeline, or everything that is wrong; `folder` holds its preparation module."""
    context = {} if folder is None else {"folder": folder}
    try:
        pipeline = Pipeline.model_validate(raw)
    except ValidationError as error:
        problems = explain(error, Pipeline, raw)
        bad = [problem.field for problem in problems]
        rest = broken(_valid_fields(raw, bad) | context)
        return problems + [p for p in rest if not any(_follows(p, field) for field in bad)]
    return broken(_fields(pipeline) | context) or _with_whole_grid(pipeline, raw)


def _with_whole_grid(pipeline: Pipeline, raw: Mapping[str, Any]) -> Pipeline:
    """A grid is tried whole unless it is said how many trials there are."""
    search = pipeline.search
    if search.algorithm != "grid" or "trials" in raw["search"]:
        return pipeline
    size = space.grid(space.parse(search.space)).size
    whole = search.model_copy(update={"trials": min(size, MOST_TRIALS)})
    return pipeline.model_copy(update={"search": whole})


def explain(error: ValidationError, model: type[BaseModel], raw: Any) -> list[Problem]:
    """Pydantic's errors as problems, one a field."""
    merged: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False, include_context=True):
        problem = _problem(detail, model, raw)
        if problem.field in merged:  # one error for each member of a union
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
        must = PATTERNS.get(str(field[-1]), f"match {context.get('pattern')}")
        return Problem(field, must, detail["input"])
    must = WORDS[kind].format(**context) if kind in WORDS else f"be right: {detail['msg']}"
    got = NOTHING if kind == "missing" else detail["input"]
    fix = ""
    if kind == "literal_error":
        fix = did_you_mean(got, re.findall(r"'([^']*)'", context["expected"]))
    if kind == "string_type" and isinstance(got, int | float):
        fix = "Put it in quotes."
    return Problem(field, must, got, fix)


def _field(location: Iterable[str | int], raw: Any, *, missing: bool) -> Path:
    """Pydantic's location without the names of union members, which stand for no key."""
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


def _follows(problem: Problem, bad: Path) -> bool:
    """Whether a rule complains of what is bad anyway: the same field, or a use of a bad column."""
    if _is_in(problem.field, bad):
        return True
    return bad[:2] == ("data", "columns") and bad[2:3] == (problem.got,)


def _is_in(field: Path, outer: Path) -> bool:
    return field[: len(outer)] == outer


def _fields(model: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Each field of the pipeline, or of its sections, under its dotted name."""
    fields: dict[str, Any] = {}
    for name, value in model:
        if isinstance(value, BaseModel) and not prefix and _section(type(model).model_fields[name]):
            fields |= _fields(value, f"{name}.")
        else:
            fields[prefix + name] = value
    return fields


def _section(info: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is always a section; a threshold may be one."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _valid_fields(raw: Mapping[str, Any], bad: list[Path]) -> dict[str, Any]:
    """What can be read of a file with errors, its bad values left out, for the rules to go on."""
    raw = copy.deepcopy(dict(raw))
    for field in bad:
        _leave_out(raw, field)
    fields: dict[str, Any] = {}
    for name, info in Pipeline.model_fields.items():
        section, value = _section(info), raw.get(name, {})
        if section is None:
            fields |= _one_field(name, info, raw, bad, ())
        elif isinstance(value, dict):
            for key, inner in section.model_fields.items():
                fields |= _one_field(key, inner, value, bad, (name,))
        elif (name,) not in bad:  # the short form of metric
            fields |= _fields(section.model_validate(value), f"{name}.")
    return fields


def _one_field(
    key: str, info: FieldInfo, raw: Mapping[str, Any], bad: list[Path], section: tuple[str, ...]
) -> dict[str, Any]:
    name = ".".join((*section, key))
    if (*section, key) in bad:
        return {}
    if key not in raw:
        return {} if info.is_required() else {name: info.get_default()}
    annotation: Any = info.annotation
    try:
        return {name: TypeAdapter(annotation).validate_python(raw[key])}
    except ValidationError:
        return {}


def _leave_out(raw: Any, field: Path) -> None:
    value = raw
    for part in field[:-1]:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return
    if isinstance(value, dict) and field[-1] in value:
        is_column = field[:-1] == ("data", "columns")
        value.pop(field[-1]) if not is_column else value.update({field[-1]: {}})
