"""What the parts of a pipeline file must be for each other, and for the machine they run on."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as Folder
from typing import Any
from urllib.parse import urlsplit

from tasks import estimators
from tasks.pipeline import space
from tasks.pipeline.metrics import of_task
from tasks.pipeline.problems import Path, Problem, ProblemsError, did_you_mean, listed
from tasks.pipeline.schema import Column, Folds, Source, Task

SCHEMES = ("sklearn", "file", "https", "http", "s3")
GLOBS = ("file", "s3")
PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
"""Airflow's names of cron expressions."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

Problems = Iterator[Problem]
Columns = Mapping[str, Column]
SPACE = ("search", "space")


def broken(fields: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with fields (`split.test` -> value); a rule that lacks one is left out."""
    return [
        problem
        for rule, needed in _RULES
        if all(name in fields for name in needed)
        for problem in rule(*(fields[name] for name in needed))
    ]


def _schedule(schedule: str | None) -> Problems:
    if schedule is None or schedule in PRESETS:
        return
    must = "be a cron expression of five fields, or one of " + listed(PRESETS)
    if schedule.startswith("@"):
        yield Problem(("schedule",), must, schedule, did_you_mean(schedule, PRESETS))
        return
    from croniter import CroniterError, croniter  # type: ignore[import-untyped]

    try:
        valid = len(croniter(schedule).expanded) == 5
    except CroniterError:
        valid = False
    if not valid:
        yield Problem(("schedule",), must, schedule)


def _sources(sources: tuple[Source, ...]) -> Problems:
    for i, source in enumerate(sources):
        yield from _source(source, ("data", "sources", i))


def _constants(sources: tuple[Source, ...], columns: Columns, prepare: str | None) -> Problems:
    if prepare is not None:
        return
    for i, source in enumerate(sources):
        for name in source.constants:
            yield from _known(name, columns, ("data", "sources", i, "constants", name))


def _source(source: Source, place: Path) -> Problems:
    scheme, separator, rest = source.uri.partition("://")
    if not separator or scheme not in SCHEMES or not rest:
        must = f"begin with {', '.join(f'{known}://' for known in SCHEMES)}, a name after it"
        fix = did_you_mean(scheme, SCHEMES) if separator else ""
        yield Problem((*place, "uri"), must, source.uri, fix)
        return
    name = source.uri if scheme in GLOBS else urlsplit(source.uri).path
    is_glob = any(character in name for character in "*?[")
    if is_glob and scheme not in GLOBS:
        must = "name one file: only file:// and s3:// may hold *"
        yield Problem((*place, "uri"), must, source.uri)
    if is_glob and source.sha256:
        must = "be left out where 'uri' stands for several files"
        yield Problem((*place, "sha256"), must, source.sha256)


def _columns(columns: Columns) -> Problems:
    for name, column in columns.items():
        yield from _column(column, ("data", "columns", name))


def _column(column: Column, place: Path) -> Problems:
    numeric = column.type in {"double", "integer"}
    for key in ("min", "max"):
        if getattr(column, key) is not None and not numeric:
            must = f"be left out of a {column.type} column"
            yield Problem((*place, key), must, getattr(column, key))
    if column.min is not None and column.max is not None and column.min > column.max:
        yield Problem((*place, "min"), f"be at most its max, {column.max:g}", column.min)
    if column.values is None:
        return
    if column.type == "datetime" or not column.values:
        must = "be left out of a datetime column" if column.values else "name at least one value"
        yield Problem((*place, "values"), must, column.values)
    elif column.type not in {"category", "string"}:
        for i, value in enumerate(column.values):
            if isinstance(value, str):
                yield Problem((*place, "values", i), f"be a value of type {column.type}", value)


def _target(target: str, columns: Columns) -> Problems:
    yield from _known(target, columns, ("data", "target"))
    if target in columns and columns[target].nullable:
        yield Problem(("data", "columns", target, "nullable"), "be false for the target", True)


def _target_type(target: str, task: Task, columns: Columns) -> Problems:
    if target not in columns:
        return
    found = columns[target].type
    place = ("data", "columns", target, "type")
    if task == "regression" and found not in {"double", "integer"}:
        yield Problem(place, "be double or integer for the target of a regression", found)
    if task != "regression" and found == "datetime":
        yield Problem(place, f"be no datetime for a {task} target", found)


def _groups(groups: tuple[str, ...], target: str, columns: Columns) -> Problems:
    for i, name in enumerate(groups):
        place: Path = ("split", "groups", i)
        yield from _known(name, columns, place)
        if name == target:
            yield Problem(place, "be another column than the target", name)
        if name in groups[:i]:
            yield Problem(place, "be given once", name)


def _features(columns: Columns, target: str, groups: tuple[str, ...], time: str | None) -> Problems:
    if target in columns and not set(columns) - {target, time, *groups}:
        must = "hold a feature: a column beside target, groups and time"
        yield Problem(("data", "columns"), must, list(columns))


def _time(method: str, column: str | None, columns: Columns) -> Problems:
    place = ("split", "column")
    if method != "time":
        if column is not None:
            yield Problem(place, f"be left out with method {method}", column)
    elif column is None:
        yield Problem(place, "name a datetime column with method time")
    else:
        yield from _known(column, columns, place)
        if column in columns and columns[column].type != "datetime":
            must = f"be a column of type datetime, not {columns[column].type}"
            yield Problem(place, must, column)


def _fractions(test: float, validation: float) -> Problems:
    if test + validation >= 1:
        must = f"leave rows to train on, but test + validation is {test + validation:g}"
        yield Problem(("split",), must)


def _validation(validation: float, resampling: str | Folds) -> Problems:
    place = ("split", "validation")
    if isinstance(resampling, Folds):
        if validation > 0:
            yield Problem(place, "be 0 with folds, which take its place", validation)
    elif validation == 0:
        fix = "Or give search.resampling folds."
        yield Problem(place, "be greater than 0 with resampling holdout", validation, fix)


def _metric(task: Task, name: str, direction: str) -> Problems:
    known = of_task(task)
    if name not in known:
        yield Problem(("metric", "name"), f"be a metric of {task}, one of {listed(known)}", name)
    elif direction != known[name]:
        yield Problem(("metric", "direction"), f"be {known[name]} for {name}", direction)


def _thresholds(task: Task, thresholds: Mapping[str, float]) -> Problems:
    known = of_task(task)
    for name in thresholds:
        if name not in known:
            must = f"be named as a metric of {task}, one of {listed(known)}"
            fix = did_you_mean(name, known)
            yield Problem(("gate", "thresholds", name), must, name, fix)


def _memory(memory: str) -> Problems:
    least = 64
    if memory.endswith("m") and int(memory[:-1]) < least:
        yield Problem(("serving", "memory"), f"be at least {least}m", memory)


def _environment(environment: Mapping[str, str]) -> Problems:
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            must = "be named with letters, digits and _, no digit first"
            yield Problem(("serving", "environment", name), must, name)


def _labels(labels: Mapping[str, str]) -> Problems:
    for name in labels:
        if not _LABEL.fullmatch(name):
            # A name with a dot is a tool's: ours, the engine's, a proxy's that looks for them.
            must = "be named with letters, digits, _ and - only, at most 63"
            yield Problem(("serving", "labels", name), must, name)


def _space(raw: Mapping[str, Any]) -> Problems:
    try:
        space.parse(raw, estimators.names())
    except ProblemsError as error:
        yield from (_under(problem, SPACE) for problem in error.problems)


def _grid(raw: Mapping[str, Any], algorithm: str) -> Problems:
    node = _parsed(raw)
    if algorithm == "grid" and node is not None and node.size() is None:
        must = "be tpe or random for a space without end"
        fix = "A grid needs choices, randint, uniformint, quniform or qloguniform only."
        yield Problem(("search", "algorithm"), must, algorithm, fix)


def _points(raw: Mapping[str, Any], points: tuple[dict[str, Any], ...]) -> Problems:
    node = _parsed(raw)
    if node is None:
        return
    for i, point in enumerate(points):
        try:
            space.to_vals(node, point)
        except space.NoMatch as error:
            yield _under(error.problem, ("search", "points", i))


def _parsed(raw: Mapping[str, Any]) -> space.Node | None:
    try:
        return space.parse(raw)
    except ProblemsError:
        return None  # `_space` says why


def _under(problem: Problem, place: Path) -> Problem:
    return dataclasses.replace(problem, field=(*place, *problem.field))


def _preparation(prepare: str | None, folder: Folder) -> Problems:
    if prepare is None:
        return
    place = ("data", "prepare")
    module, _, function = prepare.partition(":")
    file = folder / f"{module}.py"
    if not file.is_file():
        near = did_you_mean(module, (other.stem for other in folder.glob("*.py")))
        must = f"name a module beside the file, but there is no {file.name}"
        yield Problem(place, must, prepare, near)
        return
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        yield Problem(place, f"name a module of Python, but {file.name} is not: {error}")
        return
    functions = _callables(tree)
    if function not in functions:
        must = f"name a function that {file.name} defines"
        yield Problem(place, must, prepare, did_you_mean(function, functions))


def _callables(tree: ast.Module) -> list[str]:
    """The functions that a module defines or imports by name."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return names


def _known(name: str, columns: Columns, place: Path) -> Problems:
    if name not in columns:
        yield Problem(place, "be one of data.columns", name, did_you_mean(name, columns))


_RULES: tuple[tuple[Callable[..., Problems], tuple[str, ...]], ...] = (
    (_schedule, ("schedule",)),
    (_sources, ("data.sources",)),
    (_constants, ("data.sources", "data.columns", "data.prepare")),
    (_columns, ("data.columns",)),
    (_target, ("data.target", "data.columns")),
    (_target_type, ("data.target", "data.task", "data.columns")),
    (_preparation, ("data.prepare", "folder")),
    (_groups, ("split.groups", "data.target", "data.columns")),
    (_features, ("data.columns", "data.target", "split.groups", "split.column")),
    (_time, ("split.method", "split.column", "data.columns")),
    (_fractions, ("split.test", "split.validation")),
    (_validation, ("split.validation", "search.resampling")),
    (_space, ("search.space",)),
    (_grid, ("search.space", "search.algorithm")),
    (_points, ("search.space", "search.points")),
    (_metric, ("data.task", "metric.name", "metric.direction")),
    (_thresholds, ("data.task", "gate.thresholds")),
    (_memory, ("serving.memory",)),
    (_environment, ("serving.environment",)),
    (_labels, ("serving.labels",)),
)
