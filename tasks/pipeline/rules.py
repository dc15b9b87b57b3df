"""What the parts of a pipeline file must be for each other, and for the machine they run on."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from tasks.base.problems import Path, Problem, ProblemsError, did_you_mean, listed
from tasks.pipeline import data_rules, families, space
from tasks.pipeline.data_rules import Columns, Problems, Rule, is_column
from tasks.pipeline.metrics import Task, of_task, of_thresholds
from tasks.pipeline.schema import NO_FEATURES, Folds, Slices, Tuned

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
"""Airflow's names of cron expressions."""

OUR_TAGS = frozenset(
    {
        *("author", "description", "notes", "data_version", "model_type", "git_commit"),
        *("snapshot", "stage", "decision", "trained_on", "unseen_categories"),
    }
)
"""Tags of runs and versions that the chain sets, and goes by."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAG = re.compile(r"[\w\-:. ][\w\-:. /]*")
"""What MLflow takes."""
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

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


def _tags(tags: Mapping[str, str]) -> Problems:
    for name in tags:
        if not _TAG.fullmatch(name) or posixpath.normpath(name) != name:
            must = "have a name of letters, digits, spaces and _-.:, with single / between"
            yield Problem(("tags", name), must, name)
        if name in OUR_TAGS or name.startswith(("mlops.", "mlflow.")):
            yield Problem(("tags", name), "have a name that this project does not use itself", name)


def _threshold(threshold: float | Tuned, task: Task) -> Problems:
    if task != "binary" and threshold != 0.5:
        got = threshold if isinstance(threshold, float) else threshold.model_dump()
        yield Problem(("threshold",), f"be left out of a {task} task: it is of two classes", got)


def _rounded(rounded: bool, task: Task) -> Problems:
    if rounded and task != "regression":
        yield Problem(("rounded",), f"be false for a {task} task, whose answers are classes", True)


def _groups(groups: tuple[str, ...], target: str, columns: Columns) -> Problems:
    for i, name in enumerate(groups):
        place: Path = ("split", "groups", i)
        yield from is_column(name, columns, place)
        if name == target:
            yield Problem(place, "be another column than the target", name)
        if name in groups[:i]:
            yield Problem(place, "be given once", name)


def _features(columns: Columns, target: str, groups: tuple[str, ...]) -> Problems:
    features = {name for name, column in columns.items() if column.type not in NO_FEATURES}
    if target in columns and not features - {target, *groups}:
        must = "hold a feature: a number, boolean or category beside target, groups and time"
        yield Problem(("data", "columns"), must, list(columns))


def _time(method: str, column: str | None, columns: Columns) -> Problems:
    place = ("split", "column")
    if method != "time":
        if column is not None:
            yield Problem(place, f"be left out with method {method}", column)
    elif column is None:
        yield Problem(place, "name a datetime column with method time")
    else:
        yield from is_column(column, columns, place)
        if column in columns and columns[column].type != "datetime":
            must = f"be a column of type datetime, not {columns[column].type}"
            yield Problem(place, must, column)


def _stratify(stratify: bool, method: str, task: Task) -> Problems:
    place = ("split", "stratify")
    if not stratify:
        return
    if task == "regression":
        yield Problem(place, "be false for a regression, which has no classes", True)
    if method == "hash":
        fix = "A hash gives each part its share of every class on average."
        must = (
            "be false with method hash, which decides by the unit alone so that none changes part"
        )
        yield Problem(place, must, True, fix)
    elif method == "time":
        yield Problem(place, "be false with method time, which decides by the time alone", True)


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
    known = of_thresholds(task)
    for name in thresholds:
        if name not in known:
            must = f"be named as a metric of {task}, one of {listed(known)}"
            fix = did_you_mean(name, known)
            yield Problem(("gate", "thresholds", name), must, name, fix)


def _slices(slices: tuple[Slices, ...], task: Task, target: str, columns: Columns) -> Problems:
    known = of_task(task)
    for i, one in enumerate(slices):
        place: Path = ("gate", "slices", i)
        yield from is_column(one.by, columns, (*place, "by"))
        if one.by == target:
            yield Problem((*place, "by"), "be another column than the target", one.by)
        elif one.by in columns and columns[one.by].type in {"double", "datetime"}:
            must = f"be a column with few values, not {columns[one.by].type}"
            yield Problem((*place, "by"), must, one.by)
        if one.metric is not None and one.metric not in known:
            must = f"be a metric of {task}, one of {listed(known)}"
            yield Problem((*place, "metric"), must, one.metric)
        if (one.by, one.metric) in {(other.by, other.metric) for other in slices[:i]}:
            yield Problem((*place, "by"), "be given once for each metric", one.by)


def _probabilities(probabilities: bool, builder: str, task: Task) -> Problems:
    place = ("serving", "probabilities")
    if probabilities and task == "regression":
        yield Problem(place, "be false for a regression, which has no classes", True)
    elif probabilities and builder != "mlops":
        yield Problem(
            place, f"be false with serving.builder {builder}, whose server has none", True
        )


def _memory(memory: str) -> Problems:
    yield from _at_least(64, memory, ("serving", "memory"))


def _trial_memory(memory: str | None) -> Problems:
    if memory is not None:
        yield from _at_least(256, memory, ("search", "trial_memory"))


def _at_least(megabytes: int, memory: str, place: Path) -> Problems:
    if memory.endswith("m") and int(memory[:-1]) < megabytes:
        yield Problem(place, f"be at least {megabytes}m", memory)


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
        space.parse(raw, families.names())
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


_RULES: tuple[Rule, ...] = (
    *data_rules.RULES,
    (_schedule, ("schedule",)),
    (_tags, ("tags",)),
    (_threshold, ("threshold", "data.task")),
    (_rounded, ("rounded", "data.task")),
    (_groups, ("split.groups", "data.target", "data.columns")),
    (_features, ("data.columns", "data.target", "split.groups")),
    (_time, ("split.method", "split.column", "data.columns")),
    (_stratify, ("split.stratify", "split.method", "data.task")),
    (_fractions, ("split.test", "split.validation")),
    (_validation, ("split.validation", "search.resampling")),
    (_space, ("search.space",)),
    (_grid, ("search.space", "search.algorithm")),
    (_points, ("search.space", "search.points")),
    (_trial_memory, ("search.trial_memory",)),
    (_metric, ("data.task", "metric.name", "metric.direction")),
    (_thresholds, ("data.task", "gate.thresholds")),
    (_slices, ("gate.slices", "data.task", "data.target", "data.columns")),
    (_probabilities, ("serving.probabilities", "serving.builder", "data.task")),
    (_memory, ("serving.memory",)),
    (_environment, ("serving.environment",)),
    (_labels, ("serving.labels",)),
)
