"""Every mistake that a pipeline file can hold: line, field, value, and what leads to the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.base.problems import NOTHING, Problem, dotted, shown
from tasks.pipeline.load import load
from tests.tasks.pipeline.conftest import VALID

Problems = Callable[..., tuple[Problem, ...]]
A64 = "a" * 64

# What is replaced in the valid file, its replacement, the place, a part of the message.
CHANGED = [
    ("owner: someone", "owner: 5", "2: owner = 5", "text. Got 5 instead. Put it in quotes."),
    ("owner: someone\n", "", "1: owner", "given"),
    ("metric: rmse", "metric: rsme", "23: metric = 'rsme'", "Did you mean 'rmse'?"),
    ("metric: rmse", "metric: accuracy", "23: metric.name = 'accuracy'", "'mae', 'r2'"),
    (
        "metric: rmse",
        "metric: {name: rmse, direction: maximize}",
        "23: metric.direction = 'maximize'",
        "minimize",
    ),
    ("target: y", "target: z", "6: data.target = 'z'", "data.columns"),
    (
        "task: regression",
        "task: regresion",
        "7: data.task = 'regresion'",
        "Did you mean 'regression'?",
    ),
    ("max: 10", "max: -1", "12: data.columns.y.min = 0.0", "max, -1"),
    ("max: 10}", "nullable: true}", "12: data.columns.y.nullable = true", "false"),
    ("{min: 0, max: 10}", "{type: category}", "12: data.columns.y.type = 'category'", "double or"),
    ("x: {}", "x: {type: category, min: 1}", "9: data.columns.x.min = 1.0", "category"),
    ("x: {}", "x: {values: [1, a]}", "9: data.columns.x.values.1 = 'a'", "type double"),
    ("    x: {}\n", "", '8: data.columns = ["patient", "day", "y"]', "feature"),
    ("[patient]", "[patent]", "14: split.groups.0 = 'patent'", "Did you mean 'patient'?"),
    ("[patient]", "[y]", "14: split.groups.0 = 'y'", "target"),
    ("column: day", "column: x", "16: split.column = 'x'", "datetime column, not double"),
    ("  column: day\n", "", "13: split.column", "datetime column"),
    ("method: time", "method: hash", "16: split.column = 'day'", "method hash"),
    ("method: time", "method: time\n  test: 0.9", "13: split", "1.1"),
    ("method: time", "method: time\n  validation: 0", "16: split.validation = 0.0", "Or set folds"),
    (
        "estimator: ridge",
        "estimator: rigde",
        "21: search.space.choice.1.estimator = 'rigde'",
        "'keras_mlp'",
    ),
    (
        "estimator: ridge",
        "estimator: rigde",
        "21: search.space.choice.1.estimator = 'rigde'",
        "Did you mean 'ridge'?",
    ),
    (
        "estimator: ridge",
        "estimatr: ridge",
        "21: search.space.choice.1.estimator",
        "Did you mean 'estimator'?",
    ),
    (
        "[log(1e-3), log(100)]",
        "[log(100), log(1e-3)]",
        '22: search.space.choice.1.alpha.loguniform = ["log(100)", "log(1e-3)"]',
        "low < high",
    ),
    (
        "  target: y",
        "  drift: {lost: fill}\n  target: y",
        "6: data.drift.lost = 'fill'",
        "nullable",
    ),
    (
        "  target: y",
        "  drift: {new: fill}\n  target: y",
        "6: data.drift.new = 'fill'",
        "or 'ignore'",
    ),
    (
        "    x: {}",
        "    x: {type: string}",
        '8: data.columns = ["x", "patient", "day", "y"]',
        "feature",
    ),
    (
        "  target: y",
        "  prepare: small:go\n  target: y",
        "6: data.prepare = 'small:go'",
        "not exist",
    ),
    (
        "x: {}",
        "x: {type: category, values: [1, '1']}",
        "9: data.columns.x.values.1 = '1'",
        "differ",
    ),
    (
        "  target: y",
        "  class_weights: balanced\n  target: y",
        "6: data.class_weights = 'balanced'",
        "regression",
    ),
    ("metric: rmse", "metric: calibration_error", "23: metric = 'calibration_error'", "or 'brier'"),
]

# The same without what is replaced, which `CASES` adds.
AT_THE_END = [
    ("serv: {}", "24: serv = 'serv'", "Did you mean 'serving'?"),
    ("gate: {thresholds: {rmes: 1}}", "24: gate.thresholds.rmes = 'rmes'", "Did you mean 'rmse'?"),
    ("threshold: 0.3", "24: threshold = 0.3", "binary"),
    ("threshold: 1", "24: threshold = 1", "less than 1"),
    ("threshold: {maximize: auc}", "24: threshold.maximize = 'auc'", "'accuracy' or 'f1'"),
    ("serving: {probabilities: true}", "24: serving.probabilities = true", "regression"),
    ("gate: {thresholds: {f1: 1}}", "24: gate.thresholds.f1 = 'f1'", "'mae', 'r2'"),
    (
        "gate: {thresholds: {calibration_error: 0.1}}",
        "24: gate.thresholds.calibration_error = 'calibration_error'",
        "'mae', 'r2'",
    ),
    (
        "gate: {slices: [{by: patiend}]}",
        "24: gate.slices.0.by = 'patiend'",
        "Did you mean 'patient'?",
    ),
    ("gate: {slices: [{by: x}]}", "24: gate.slices.0.by = 'x'", "double"),
    ("gate: {slices: [{by: y}]}", "24: gate.slices.0.by = 'y'", "target"),
    (
        "gate: {slices: [{by: patient, metric: f1}]}",
        "24: gate.slices.0.metric = 'f1'",
        "'mae', 'r2'",
    ),
    ("gate: {slices: [{by: patient}, {by: patient}]}", "24: gate.slices.1.by = 'patient'", "once"),
    ("gate: {model_size: 50}", "24: gate.model_size = 50", "Put it in quotes."),
    ("gate: {model_size: 50mb}", "24: gate.model_size = '50mb'", "e.g. 50m"),
    ("gate: {latency_ms: 0}", "24: gate.latency_ms = 0", "greater than 0"),
    ("gate: {confidence: 1}", "24: gate.confidence = 1", "less than 1"),
    ("serving: on", "24: serving = 'on'", "a mapping"),
    ("7: x", "24: ", "Put it in quotes."),
]

IN_SEARCH = [
    ("resampling: {folds: 5}", "13: split.validation = 0.2", "be 0 with folds"),
    ("resampling: {folds: 1}", "18: search.resampling.folds = 1", "at least 2"),
    ("resampling: kfold", "18: search.resampling = 'kfold'", "'holdout' or a mapping"),
    ("resampling: {}", "18: search.resampling.folds", "given"),
    ("trial_memory: 4gb", "18: search.trial_memory = '4gb'", "e.g. 512m"),
    ("trial_memory: 100m", "18: search.trial_memory = '100m'", "at least 256m"),
    ("trials: many", "18: search.trials = 'many'", "an integer"),
    ("trials: 0", "18: search.trials = 0", "at least 1"),
    (f"seed: {2**32}", "18: search.seed = 4294967296", "less than"),
    (
        "points: [{estimator: [ridge, linear]}]",
        '18: search.points.0.estimator = ["ridge", "linear"]',
        "'linear', 'ridge'",
    ),
    (
        f"points: [{{estimator: ridge, alpha: {10**400}}}]",
        f"18: search.points.0.alpha = {shown(10**400)}",
        "0.001 to 100",
    ),
    ("trials: 1.5", "18: search.trials = 1.5", "an integer"),
    ("timeout: .inf", "18: search.timeout = Infinity", "finite"),
    ("algorithm: grid", "18: search.algorithm = 'grid'", "tpe or random"),
    ("points: [{estimator: ridge}]", "18: search.points.0.alpha", "given"),
    (
        "points: [{estimator: ridge, alpha: 1e9}]",
        "18: search.points.0.alpha = 1000000000.0",
        "0.001 to 100",
    ),
]

AS_URI = [
    ("flie://rows.csv", "5: data.sources.0.uri = 'flie://rows.csv'", "Did you mean 'file'?"),
    ("rows.csv", "5: data.sources.0.uri = 'rows.csv'", "sklearn://, file://"),
    (
        "https://example.org/a*.csv",
        "5: data.sources.0.uri = 'https://example.org/a*.csv'",
        "only file://",
    ),
    ('"https://[x/y.csv"', "5: data.sources.0.uri = 'https://[x/y.csv'", "e.g. https://"),
    ('"sklearn://[x"', "5: data.sources.0.uri = 'sklearn://[x'", "only file://"),
    (
        f"file://rows-*.csv\n      sha256: {A64}",
        f"6: data.sources.0.sha256 = '{A64}'",
        "several files",
    ),
    ("file://r.csv\n      sha256: abc", "6: data.sources.0.sha256 = 'abc'", "64"),
    ("file://r.csv\n      connection: lake", "6: data.sources.0.connection = 'lake'", "s3://"),
    (
        "file://r.csv\n      query: select 1",
        "6: data.sources.0.query = 'select 1'",
        "postgresql://",
    ),
    (
        "s3://a/b.csv\n      connection: 'a b'",
        "6: data.sources.0.connection = 'a b'",
        "letters, digits, _",
    ),
    ("postgresql://\n      connection: sales", "5: data.sources.0.query = null", "SQL"),
    ("postgresql://\n      query: select 1", "5: data.sources.0.connection", "postgresql://"),
    (
        "postgresql://ada:secret@db/sales\n      query: select 1\n      connection: a",
        "5: data.sources.0.uri = 'postgresql://ada:secret@db/sales'",
        "postgresql://DATABASE",
    ),
    (
        "postgresql://sales\n      query: select 1\n      connection: a\n      format: csv",
        "8: data.sources.0.format = 'csv'",
        "left out",
    ),
    (
        "file://r.csv\n      constants: {color: red}",
        "6: data.sources.0.constants.color = 'color'",
        "data.columns",
    ),
]

AFTER_THE_OWNER = [
    ("schedule: '@dayly'", "3: schedule = '@dayly'", "Did you mean '@daily'?"),
    ("schedule: 61 * * * *", "3: schedule = '61 * * * *'", "five fields"),
    ("schedule: 0 0 * * * *", "3: schedule = '0 0 * * * *'", "five fields"),
    ("schedule: @daily", "3: ", "begins with @"),
    ("name: other", "3: name = 'other'", "the file's name"),
    ("tags: {snapshot: daily}", "3: tags.snapshot = 'snapshot'", "the chain sets"),
    (
        "tags: {cost center (EUR): '42'}",
        "3: tags.cost center (EUR) = 'cost center (EUR)'",
        "spaces",
    ),
    ("tags: {/a: b}", "3: tags./a = '/a'", "spaces"),
    ("owner: b", "3: owner", "The first is in line 2."),
]


CASES = [
    *CHANGED,
    *(("metric: rmse", f"metric: rmse\n{new}", *rest) for new, *rest in AT_THE_END),
    *(("search:", f"search:\n  {new}", *rest) for new, *rest in IN_SEARCH),
    *(("file://rows.csv", new, *rest) for new, *rest in AS_URI),
    *(("owner: someone", f"owner: a\n{new}", *rest) for new, *rest in AFTER_THE_OWNER),
]


@pytest.mark.parametrize(("old", "new", "place", "fact"), CASES)
def test_a_single_mistake_is_the_only_problem(
    problems: Problems, old: str, new: str, place: str, fact: str
) -> None:
    (problem,) = problems((old, new))
    assert where(problem) == place
    assert fact in str(problem)


def where(problem: Problem) -> str:
    """Line, field and value."""
    got = "" if problem.got is NOTHING else f" = {shown(problem.got)}"
    return f"{problem.line}: {dotted(problem.field)}{got}"


def test_only_a_shuffle_of_classes_can_be_stratified(problems: Problems) -> None:
    on = ("  method: time", "  stratify: true\n  method: time")
    classes = (("task: regression", "task: binary"), ("metric: rmse", "metric: auc"))
    shuffle = ("  method: time\n  column: day\n", "  method: random\n")
    hashed = ("  method: time\n  column: day\n", "  method: hash\n")
    by_time = {where(problem): str(problem) for problem in problems(on, *classes)}
    assert "method time" in by_time["15: split.stratify = true"]
    (by_hash,) = problems(on, hashed, *classes)
    assert where(by_hash) == "15: split.stratify = true"
    assert "method hash" in str(by_hash)
    assert "share of every class" in by_hash.fix
    (of_numbers,) = problems(on, shuffle)
    assert where(of_numbers) == "15: split.stratify = true"
    assert "regression" in str(of_numbers)


@pytest.mark.parametrize(
    ("kind", "wrong", "form"),
    [("min: 0, max: 10", "a", "an integer"), ("type: boolean", "'1'", "true or false")],
)
def test_weights_name_classes_as_their_type_does(
    problems: Problems, kind: str, wrong: str, form: str
) -> None:
    (problem,) = problems(
        ("task: regression", f"task: binary\n  class_weights: {{{wrong}: 2}}"),
        ("min: 0, max: 10", kind),
        ("metric: rmse", "metric: auc"),
        ("estimator: linear", "estimator: logistic_regression"),
        ("estimator: ridge\n        alpha", "estimator: logistic_regression\n        reg_rate"),
    )
    label = wrong.strip("'")
    assert where(problem) == f"8: data.class_weights.{label} = '{label}'"
    assert form in problem.must


def test_all_problems_come_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    several = problems(
        ("owner: someone", "ownr: someone"),
        ("task: regression", "task: regresion"),
        ("target: y", "target: z"),
        ("[patient]", "[patent]"),
        ("search:", "search:\n  trials: 0"),
        ("loguniform", "logunifrom"),
        ("metric: rmse", "metric: rmse\ngate: {mode: enforced}"),
    )
    assert [where(problem) for problem in several] == [
        "1: owner",
        "2: ownr = 'ownr'",
        "6: data.target = 'z'",
        "7: data.task = 'regresion'",
        "14: split.groups.0 = 'patent'",
        "18: search.trials = 0",
        "23: search.space.choice.1.alpha = 'logunifrom'",
        "25: gate.mode = 'enforced'",
    ]


def test_a_mistake_hides_no_other_mistake_beside_it(problems: Problems) -> None:
    several = problems(
        ("uri: file://rows.csv", "uri: rows.csv\n      sha256: abc"),
        ("x: {}", "x: {min: a, max: 1, values: [b]}"),
        ("target: y", "target: z"),
        ("[patient]", "[patent]"),
        ("metric: rmse", "metric: rmse\nserving: {memory: 1m, cpus: 0, labels: {a.b: c}}"),
    )
    assert [where(problem) for problem in several] == [
        "5: data.sources.0.uri = 'rows.csv'",
        "6: data.sources.0.sha256 = 'abc'",
        "7: data.target = 'z'",
        "10: data.columns.x.min = 'a'",
        "15: split.groups.0 = 'patent'",
        "25: serving.cpus = 0",
        "25: serving.labels.a.b = 'a.b'",
        "25: serving.memory = '1m'",
    ]


def test_a_bad_value_does_not_cause_further_problems(problems: Problems) -> None:
    """With a column's type misspelt, the column still exists for target and split."""
    several = problems(("{type: datetime}", "{type: datetme}"), ("{type: string}", "{min: x}"))
    assert [where(problem) for problem in several] == [
        "10: data.columns.patient.min = 'x'",
        "11: data.columns.day.type = 'datetme'",
    ]
    assert several[1].fix == "Did you mean 'datetime'?"


class TestPreparationFunction:
    CHANGE = ("  target: y", "  prepare: small:join\n  target: y")

    def test_is_found_without_running_its_module(self, folder: Path) -> None:
        (folder / "small.yaml").write_text(VALID.replace(*self.CHANGE))
        (folder / "small.py").write_text("raise SystemExit\ndef join(tables): return tables[0]")
        assert load("small").data.prepare == "small:join"

    def test_may_be_imported_by_its_module(self, folder: Path) -> None:
        (folder / "small.yaml").write_text(VALID.replace(*self.CHANGE))
        (folder / "small.py").write_text("from other import merge as join")
        assert load("small").data.prepare == "small:join"

    @pytest.mark.parametrize(
        ("source", "reason"),
        [("def jion(tables): ...", "Did you mean 'jion'?"), ("def join(:", "invalid syntax")],
    )
    def test_is_missing(self, problems: Problems, tmp_path: Path, source: str, reason: str) -> None:
        (tmp_path / "small.py").write_text(source)
        (problem,) = problems(self.CHANGE)
        assert dotted(problem.field) == "data.prepare"
        assert reason in str(problem)
