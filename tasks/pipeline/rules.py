"""Rules for what pydantic cannot check: how the parts of a pipeline file must fit together."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from contextlib import suppress

from tasks.base.problems import Path, Problem, ProblemsError, did_you_mean, listed
from tasks.pipeline import data_rules, families, space
from tasks.pipeline.data_rules import Problems, Rule, check_column_name
from tasks.pipeline.metrics import of_task, of_thresholds
from tasks.pipeline.schema import NO_FEATURES, Folds, Pipeline, Slices, Tuned, WrongFieldError

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
"""Airflow's names of cron expressions."""

OUR_TAGS = frozenset(
    {
        *("author", "description", "notes", "data_version", "model_type", "git_commit"),
        *("snapshot", "stage", "decision", "trained_on", "unseen_categories"),
    }
)
"""Tags of runs and versions that the chain sets and reads."""

_TAG = re.compile(r"[\w\-:. ][\w\-:. /]*")
"""The names that MLflow accepts."""


def _check_schedule(pipeline: Pipeline) -> Problems:
    schedule = pipeline.schedule
    if schedule is None or schedule in PRESETS:
        return
    must = f"be a cron expression of five fields, or one of {listed(PRESETS)}"
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


def _check_tags(pipeline: Pipeline) -> Problems:
    for name in pipeline.tags:
        if not _TAG.fullmatch(name) or posixpath.normpath(name) != name:
            must = "have a name of letters, digits, spaces and _-.:, separated by single /"
            yield Problem(("tags", name), must, name)
        if name in OUR_TAGS or name.startswith(("mlops.", "mlflow.")):
            yield Problem(("tags", name), "not use a name that the chain sets itself", name)


def _check_threshold(pipeline: Pipeline) -> Problems:
    threshold, task = pipeline.threshold, pipeline.data.task
    if task != "binary" and threshold != 0.5:
        got = threshold.model_dump() if isinstance(threshold, Tuned) else threshold
        yield Problem(("threshold",), f"be left out: it is for binary tasks, not {task}", got)


def _check_rounded(pipeline: Pipeline) -> Problems:
    task = pipeline.data.task
    if pipeline.rounded and task != "regression":
        yield Problem(("rounded",), f"be false for a {task} task: it predicts classes", True)


def _check_groups(pipeline: Pipeline) -> Problems:
    groups = pipeline.split.groups
    for i, name in enumerate(groups):
        place: Path = ("split", "groups", i)
        yield from check_column_name(name, pipeline, place)
        if name == pipeline.data.target:
            yield Problem(place, "be a column other than the target", name)
        if name in groups[:i]:
            yield Problem(place, "be given once", name)


def _check_features(pipeline: Pipeline) -> Problems:
    columns, target = pipeline.data.columns, pipeline.data.target
    features = {name for name, column in columns.items() if column.type not in NO_FEATURES}
    if target in columns and not features - {target, *pipeline.split.groups}:
        must = "contain a feature: a number, boolean or category besides the target and the groups"
        yield Problem(("data", "columns"), must, list(columns))


def _check_time_column(pipeline: Pipeline) -> Problems:
    place = ("split", "column")
    method, name, columns = pipeline.split.method, pipeline.split.column, pipeline.data.columns
    if method != "time":
        if name is not None:
            yield Problem(place, f"be left out with method {method}", name)
    elif name is None:
        yield Problem(place, "name a datetime column for method time")
    else:
        yield from check_column_name(name, pipeline, place)
        if name in columns and columns[name].type != "datetime":
            yield Problem(place, f"name a datetime column, not {columns[name].type}", name)


def _check_stratify(pipeline: Pipeline) -> Problems:
    place = ("split", "stratify")
    if not pipeline.split.stratify:
        return
    if pipeline.data.task == "regression":
        yield Problem(place, "be false for a regression, which has no classes", True)
    if pipeline.split.method == "hash":
        must = "be false with method hash, which assigns each unit on its own, for good"
        fix = "On average a hash gives each part its share of every class."
        yield Problem(place, must, True, fix)
    elif pipeline.split.method == "time":
        yield Problem(place, "be false with method time, which splits by time alone", True)


def _check_fractions(pipeline: Pipeline) -> Problems:
    total = pipeline.split.test + pipeline.split.validation
    if total >= 1:
        yield Problem(("split",), f"leave rows for training, but test + validation is {total:g}")


def _check_validation(pipeline: Pipeline) -> Problems:
    place, validation = ("split", "validation"), pipeline.split.validation
    if isinstance(pipeline.search.resampling, Folds):
        if validation > 0:
            yield Problem(place, "be 0 with folds, which replace it", validation)
    elif validation == 0:
        fix = "Or set folds in search.resampling."
        yield Problem(place, "be greater than 0 with resampling holdout", validation, fix)


def _check_metric(pipeline: Pipeline) -> Problems:
    metric, known = pipeline.metric, of_task(pipeline.data.task)
    yield from _check_metric_name(metric.name, known, pipeline, ("metric", "name"))
    if metric.direction != known.get(metric.name, metric.direction):
        must = f"be {known[metric.name]} for {metric.name}"
        yield Problem(("metric", "direction"), must, metric.direction)


def _check_thresholds(pipeline: Pipeline) -> Problems:
    known = of_thresholds(pipeline.data.task)
    for name in pipeline.gate.thresholds:
        yield from _check_metric_name(name, known, pipeline, ("gate", "thresholds", name))


def _check_metric_name(
    name: str, known: Collection[str], pipeline: Pipeline, place: Path
) -> Problems:
    if name not in known:
        must = f"be a metric of {pipeline.data.task}: {listed(known)}"
        yield Problem(place, must, name, did_you_mean(name, known))


def _check_slices(pipeline: Pipeline) -> Problems:
    slices = pipeline.gate.slices
    for i, part in enumerate(slices):
        place: Path = ("gate", "slices", i)
        with suppress(WrongFieldError):
            yield from _check_slice(part, pipeline, place)
            if (part.by, part.metric) in {(other.by, other.metric) for other in slices[:i]}:
                yield Problem((*place, "by"), "be given once for each metric", part.by)


def _check_slice(part: Slices, pipeline: Pipeline, place: Path) -> Problems:
    columns = pipeline.data.columns
    yield from check_column_name(part.by, pipeline, (*place, "by"))
    if part.by == pipeline.data.target:
        yield Problem((*place, "by"), "be a column other than the target", part.by)
    elif part.by in columns and columns[part.by].type in {"double", "datetime"}:
        must = f"be a column with few values, not a {columns[part.by].type}"
        yield Problem((*place, "by"), must, part.by)
    if part.metric is not None:
        known = of_task(pipeline.data.task)
        yield from _check_metric_name(part.metric, known, pipeline, (*place, "metric"))


def _check_probabilities(pipeline: Pipeline) -> Problems:
    place, serving = ("serving", "probabilities"), pipeline.serving
    if not serving.probabilities:
        return
    if pipeline.data.task == "regression":
        yield Problem(place, "be false for a regression, which has no classes", True)
    elif serving.builder != "mlops":
        must = f"be false with builder {serving.builder}, whose server returns none"
        yield Problem(place, must, True)


def _check_memory(pipeline: Pipeline) -> Problems:
    yield from _at_least(64, pipeline.serving.memory, ("serving", "memory"))


def _check_trial_memory(pipeline: Pipeline) -> Problems:
    yield from _at_least(256, pipeline.search.trial_memory, ("search", "trial_memory"))


def _at_least(megabytes: int, memory: str | None, place: Path) -> Problems:
    if memory is not None and memory.endswith("m") and int(memory[:-1]) < megabytes:
        yield Problem(place, f"be at least {megabytes}m", memory)


def _check_space(pipeline: Pipeline) -> Problems:
    try:
        space.parse(pipeline.search.space, families.names())
    except ProblemsError as error:
        yield from (problem.below(("search", "space")) for problem in error.problems)


def _check_grid(pipeline: Pipeline) -> Problems:
    tree = _tree(pipeline)
    if pipeline.search.algorithm == "grid" and tree is not None and tree.size() is None:
        fix = "A grid needs choices, randint, uniformint, quniform or qloguniform only."
        must = "be tpe or random: the space is infinite"
        yield Problem(("search", "algorithm"), must, pipeline.search.algorithm, fix)


def _check_points(pipeline: Pipeline) -> Problems:
    tree = _tree(pipeline)
    if tree is None:
        return
    for i, point in enumerate(pipeline.search.points):
        try:
            space.to_vals(tree, point)
        except space.NoMatch as error:
            yield error.problem.below(("search", "points", i))


def _tree(pipeline: Pipeline) -> space.Node | None:
    try:
        return space.parse(pipeline.search.space)
    except ProblemsError:
        return None  # `_check_space` says why


RULES: tuple[Rule, ...] = (
    *data_rules.RULES,
    _check_schedule,
    _check_tags,
    _check_threshold,
    _check_rounded,
    _check_groups,
    _check_features,
    _check_time_column,
    _check_stratify,
    _check_fractions,
    _check_validation,
    _check_space,
    _check_grid,
    _check_points,
    _check_trial_memory,
    _check_metric,
    _check_thresholds,
    _check_slices,
    _check_probabilities,
    _check_memory,
)
