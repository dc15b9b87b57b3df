from __future__ import annotations

import copy
import functools
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.base.errors import UserError
from tasks.base.settings import REPOSITORY
from tasks.pipeline import document
from tasks.pipeline.checks import check
from tasks.pipeline.load import load, names, parse_file
from tasks.pipeline.schema import Pipeline
from tests.tasks.pipeline.conftest import VALID

Problems = Callable[..., list[str]]
REFERENCE = REPOSITORY / "pipelines" / "diabetes_progression.yaml"


def test_a_file_becomes_a_pipeline(folder: Path) -> None:
    (folder / "small.yaml").write_text(VALID)

    pipeline = load("small")

    assert pipeline.name == "small"
    assert pipeline.metric.name == "rmse"
    assert pipeline.metric.direction == "minimize"
    assert pipeline.feature_names == ("x",)
    assert pipeline.search.trials == 40
    assert Pipeline.model_validate_json(pipeline.model_dump_json()) == pipeline


def test_names_are_the_files_sorted(folder: Path) -> None:
    for name in ("b", "a"):
        (folder / f"{name}.yaml").write_text(VALID)
    (folder / "schema.json").write_text("{}")
    assert names() == ["a", "b"]


def test_an_unknown_name_is_answered_with_the_nearest(folder: Path) -> None:
    (folder / "wine_quality.yaml").write_text(VALID)
    with pytest.raises(UserError, match="Did you mean 'wine_quality'"):
        load("wine_qualty")


def test_a_yml_file_is_to_be_renamed(folder: Path) -> None:
    (folder / "wine.yml").write_text(VALID)
    with pytest.raises(UserError, match=r"Rename wine\.yml to wine\.yaml"):
        load("wine")


def test_a_path_is_no_name(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "small.yaml").write_text(VALID)
    with pytest.raises(UserError, match="There is no pipeline"):
        load("in/../small")


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-03"])
def test_numbers_as_people_write_them(folder: Path, text: str) -> None:
    body = VALID.replace("{loguniform: [log(1e-3), log(100)]}", f"{{uniform: [{text}, 1]}}")
    (folder / "small.yaml").write_text(f"{body}gate:\n  min_improvement: {text}\n")
    pipeline = load("small")
    assert pipeline.gate.min_improvement == 0.001
    assert pipeline.search.space["choice"][1]["alpha"] == {"uniform": [0.001, 1]}


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("metric: rmse", "metric: rmse\nserv: {}", "24: The 'serv' field must be one of the known"),
        ("owner: someone", "owner: 5", "2: The 'owner' field must be text. Got 5 instead."),
        ("owner: someone\n", "", "1: The 'owner' field must be given."),
        ("metric: rmse", "metric: rsme", "Got 'rsme' instead. Did you mean 'rmse'?"),
        ("metric: rmse", "metric: accuracy", "23: The 'metric.name' field must be a metric of reg"),
        (
            "metric: rmse",
            "metric: {name: rmse, direction: maximize}",
            "23: The 'metric.direction' field must be minimize for rmse. Got 'maximize' instead.",
        ),
        ("target: y", "target: z", "6: The 'data.target' field must be one of data.columns."),
        ("task: regression", "task: regresion", "Did you mean 'regression'?"),
        ("max: 10", "max: -1", "12: The 'data.columns.y.min' field must be at most its max, -1."),
        ("max: 10}", "nullable: true}", "12: The 'data.columns.y.nullable' field must be false"),
        ("{min: 0, max: 10}", "{type: category}", "must be double or integer for the target"),
        ("x: {}", "x: {type: category, min: 1}", "9: The 'data.columns.x.min' field must be left"),
        ("x: {}", "x: {values: [1, a]}", "9: The 'data.columns.x.values.1' field must be a value"),
        ("    x: {}\n", "", "must hold a feature"),
        ("[patient]", "[patent]", "14: The 'split.groups.0' field must be one of data.columns."),
        ("[patient]", "[y]", "must be another column than the target"),
        ("column: day", "column: x", "must be a column of type datetime, not double. Got 'x'"),
        ("  column: day\n", "", "must name a datetime column with method time"),
        ("method: time", "method: hash", "must be left out with method hash. Got 'day'"),
        ("method: time", "method: time\n  test: 0.9", "13: The 'split' field must leave rows"),
        ("method: time", "method: time\n  validation: 0", "with resampling holdout. Got 0"),
        ("search:", "search:\n  resampling: {folds: 5}", "must be 0 with folds"),
        ("search:", "search:\n  resampling: {folds: 1}", "18: The 'search.resampling.folds' field"),
        ("search:", "search:\n  resampling: kfold", "must be 'holdout' or a mapping. Got 'kfold'"),
        ("search:", "search:\n  resampling: {}", "The 'search.resampling.folds' field must be gi"),
        ("search:", "search:\n  trial_memory: 4gb", "must be a whole number with m or g behind it"),
        ("search:", "search:\n  trial_memory: 100m", "18: The 'search.trial_memory' field must be"),
        ("search:", "search:\n  trials: many", "must be an integer. Got 'many' instead."),
        ("search:", "search:\n  trials: 0", "18: The 'search.trials' field must be at least 1."),
        ("search:", f"search:\n  seed: {2**32}", "'search.seed' field must be less than"),
        (
            "search:",
            "search:\n  points: [{estimator: [ridge, linear]}]",
            "points.0.estimator' field must be one of 'linear', 'ridge'. Got",
        ),
        (
            "search:",
            f"search:\n  points: [{{estimator: ridge, alpha: {10**400}}}]",
            "points.0.alpha' field must be a number from 0.001 to 100.",
        ),
        ("search:", "search:\n  trials: 1.5", "must be an integer. Got 1.5 instead."),
        ("search:", "search:\n  timeout: .inf", "must be finite."),
        ("search:", "search:\n  algorithm: grid", "must be tpe or random for a space without end"),
        ("search:", "search:\n  points: [{estimator: ridge}]", "points.0.alpha' field must be giv"),
        (
            "search:",
            "search:\n  points: [{estimator: ridge, alpha: 1e9}]",
            "points.0.alpha' field must be a number from 0.001 to 100. Got 1000000000.0 instead.",
        ),
        ("estimator: ridge", "estimator: rigde", "21: The 'search.space.choice.1.estimator' field"),
        ("estimator: ridge", "estimator: rigde", "Did you mean 'ridge'?"),
        ("estimator: ridge", "estimatr: ridge", "Did you mean 'estimator'?"),
        ("[log(1e-3), log(100)]", "[log(100), log(1e-3)]", "must have low < high."),
        ("file://rows.csv", "flie://rows.csv", "5: The 'data.sources.0.uri' field must begin with"),
        ("file://rows.csv", "rows.csv", "must begin with sklearn://"),
        ("file://rows.csv", "https://example.org/a*.csv", "only file:// and s3:// may hold *"),
        (
            "file://rows.csv",
            '"https://[x/y.csv"',
            "5: The 'data.sources.0.uri' field must be an address, e.g. https://example.org/rows",
        ),
        ("file://rows.csv", '"sklearn://[x"', "only file:// and s3:// may hold *"),
        (
            "file://rows.csv",
            f"file://rows-*.csv\n      sha256: {'a' * 64}",
            "6: The 'data.sources.0.sha256' field must be left out",
        ),
        ("file://rows.csv", "file://r.csv\n      sha256: abc", "must be 64 hexadecimal digits"),
        (
            "file://rows.csv",
            "file://r.csv\n      connection: lake",
            "6: The 'data.sources.0.connection' field must be left out: it is for s3:// and",
        ),
        (
            "file://rows.csv",
            "file://r.csv\n      query: select 1",
            "6: The 'data.sources.0.query' field must be left out: it is for postgresql://",
        ),
        ("file://rows.csv", "s3://a/b.csv\n      connection: 'a b'", "must be letters, digits, _"),
        (
            "file://rows.csv",
            "postgresql://\n      connection: sales",
            "The 'data.sources.0.query' field must be the SQL of a postgresql:// source",
        ),
        (
            "file://rows.csv",
            "postgresql://\n      query: select 1",
            "The 'data.sources.0.connection' field must be named for postgresql://",
        ),
        (
            "file://rows.csv",
            "postgresql://ada:secret@db/sales\n      query: select 1\n      connection: a",
            "5: The 'data.sources.0.uri' field must be postgresql:// or postgresql://DATABASE",
        ),
        (
            "file://rows.csv",
            "postgresql://sales\n      query: select 1\n      connection: a\n      format: csv",
            "8: The 'data.sources.0.format' field must be left out",
        ),
        ("  target: y", "  drift: {lost: fill}\n  target: y", "must be reject: no column is null"),
        ("  target: y", "  drift: {new: fill}\n  target: y", "The 'data.drift.new' field must be"),
        ("    x: {}", "    x: {type: string}", "must hold a feature: a number, boolean or cat"),
        (
            "file://rows.csv",
            "file://r.csv\n      constants: {color: red}",
            "constants.color' field",
        ),
        ("  target: y", "  prepare: small:go\n  target: y", "but there is no small.py."),
        ("owner: someone", "owner: a\nschedule: '@dayly'", "Did you mean '@daily'?"),
        (
            "owner: someone",
            "owner: a\nschedule: 61 * * * *",
            "3: The 'schedule' field must be a cr",
        ),
        ("owner: someone", "owner: a\nschedule: 0 0 * * * *", "a cron expression of five fields"),
        ("owner: someone", "owner: a\nschedule: @daily", "put a value that begins with @"),
        ("owner: someone", "owner: a\nname: other", "must be left out, or equal the file's name."),
        (
            "owner: someone",
            "owner: a\ntags: {snapshot: daily}",
            "'tags.snapshot' field must have a",
        ),
        (
            "owner: someone",
            "owner: a\ntags: {cost center (EUR): '42'}",
            "3: The 'tags.cost center (EUR)' field must have a name of letters, digits, spaces and",
        ),
        ("owner: someone", "owner: a\ntags: {/a: b}", "'tags./a' field must have a name of let"),
        ("x: {}", "x: {type: category, values: [1, '1']}", "be other than the values before it"),
        ("owner: someone", "owner: a\nowner: b", "3: The 'owner' field must be given once."),
        ("metric: rmse", "metric: rmse\ngate: {thresholds: {rmes: 1}}", "Did you mean 'rmse'?"),
        (
            "metric: rmse",
            "metric: rmse\nthreshold: 0.3",
            "24: The 'threshold' field must be left out of a regression task: it is of two classe",
        ),
        (
            "metric: rmse",
            "metric: rmse\nthreshold: 1",
            "24: The 'threshold' field must be less tha",
        ),
        (
            "metric: rmse",
            "metric: rmse\nthreshold: {maximize: auc}",
            "24: The 'threshold.maximize' field must be 'accuracy' or 'f1'. Got 'auc' instead.",
        ),
        (
            "  target: y",
            "  class_weights: balanced\n  target: y",
            "'data.class_weights' field must be left out of a regression, which has no classes.",
        ),
        (
            "metric: rmse",
            "metric: rmse\nserving: {probabilities: true}",
            "24: The 'serving.probabilities' field must be false for a regression, which has no",
        ),
        (
            "metric: rmse",
            "metric: rmse\ngate: {thresholds: {f1: 1}}",
            "be named as a metric of reg",
        ),
        (
            "metric: rmse",
            "metric: rmse\ngate: {thresholds: {calibration_error: 0.1}}",
            "be named as a metric of reg",
        ),
        ("metric: rmse", "metric: calibration_error", "'log_loss' or 'brier'. Got 'calib"),
        (
            "metric: rmse",
            "metric: rmse\ngate: {slices: [{by: patiend}]}",
            "Did you mean 'patient'?",
        ),
        (
            "metric: rmse",
            "metric: rmse\ngate: {slices: [{by: x}]}",
            "must be a column with few values, not double",
        ),
        ("metric: rmse", "metric: rmse\ngate: {slices: [{by: y}]}", "another column than the tar"),
        (
            "metric: rmse",
            "metric: rmse\ngate: {slices: [{by: patient, metric: f1}]}",
            "must be a metric of regression",
        ),
        (
            "metric: rmse",
            "metric: rmse\ngate: {slices: [{by: patient}, {by: patient}]}",
            "must be given once for each metric",
        ),
        ("metric: rmse", "metric: rmse\ngate: {model_size: 50}", "be text"),
        ("metric: rmse", "metric: rmse\ngate: {model_size: 50mb}", "e.g. 50m"),
        ("metric: rmse", "metric: rmse\ngate: {latency_ms: 0}", "must be greater than 0"),
        ("metric: rmse", "metric: rmse\ngate: {confidence: 1}", "must be less than 1. Got 1"),
        ("metric: rmse", "metric: rmse\nserving: on", "24: The 'serving' field must be a mapping."),
        ("metric: rmse", "metric: rmse\n7: x", "24: The file must have text as keys, not 7."),
    ],
)
def test_one_wrong_thing_is_the_one_problem(
    problems: Problems, old: str, new: str, line: str
) -> None:
    found = problems((old, new))
    assert len(found) == 1
    assert line in found[0]


def test_only_a_shuffle_of_classes_can_be_stratified(problems: Problems) -> None:
    on = ("  method: time", "  stratify: true\n  method: time")
    classes = (("task: regression", "task: binary"), ("metric: rmse", "metric: auc"))
    shuffle = ("  method: time\n  column: day\n", "  method: random\n")
    hashed = ("  method: time\n  column: day\n", "  method: hash\n")
    assert "must be false with method time" in " ".join(problems(on, *classes))
    (line,) = problems(on, hashed, *classes)
    assert "so that none changes part. Got true instead. A hash gives each" in line
    (line,) = problems(on, shuffle)
    assert "15: The 'split.stratify' field must be false for a regression" in line


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("min: 0, max: 10", "a", "name a class, a whole number"),
        ("type: boolean", "'1'", "name a class, true or false"),
    ],
)
def test_weights_name_classes_as_their_type_does(
    problems: Problems, kind: str, wrong: str, said: str
) -> None:
    (line,) = problems(
        ("task: regression", f"task: binary\n  class_weights: {{{wrong}: 2}}"),
        ("min: 0, max: 10", kind),
        ("metric: rmse", "metric: auc"),
        ("estimator: linear", "estimator: logistic_regression"),
        ("estimator: ridge\n        alpha", "estimator: logistic_regression\n        reg_rate"),
    )
    assert f"The 'data.class_weights.{wrong.strip(chr(39))}' field must {said}." in line


def test_all_problems_come_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    found = problems(
        ("owner: someone", "ownr: someone"),
        ("task: regression", "task: regresion"),
        ("target: y", "target: z"),
        ("[patient]", "[patent]"),
        ("search:", "search:\n  trials: 0"),
        ("loguniform", "logunifrom"),
        ("metric: rmse", "metric: rmse\ngate: {mode: enforced}"),
    )
    expected = [
        "1: The 'owner' field",
        "2: The 'ownr' field",
        "6: The 'data.target' field",
        "7: The 'data.task' field",
        "14: The 'split.groups.0' field",
        "18: The 'search.trials' field",
        "23: The 'search.space.choice.1.alpha' field",
        "25: The 'gate.mode' field",
    ]
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected


def test_a_bad_value_does_not_bring_problems_that_are_none(problems: Problems) -> None:
    """With a column's type misspelt, the column is still there for target and split."""
    found = problems(("{type: datetime}", "{type: datetme}"), ("{type: string}", "{min: x}"))
    assert len(found) == 2
    assert "10: The 'data.columns.patient.min' field must be a number." in found[0]
    assert "Did you mean 'datetime'?" in found[1]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "1: The file must be a mapping of keys"),
        (b"- 1", "1: The file must be a mapping of keys"),
        (b"a: [", "2: The file must be valid YAML"),
        (b"a: 1\n---\nb: 2", "2: The file must be valid YAML"),
        (b"a: 1\n\tb: 2", "2: The file must be valid YAML"),
        (b"a: !!python/object:os.system x", "1: The file must be valid YAML"),
        (b"a: &b {x: *b}", "1: The 'a.x' field must not hold itself."),
        (b"a: \xff", "1: The file must be UTF-8 text, but byte 3 is not."),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        parse_file(file)
    assert f"{file}:{line}" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        parse_file(tmp_path / "none.yaml")


def test_the_name_of_a_file_must_be_a_name(tmp_path: Path) -> None:
    file = tmp_path / "My Model.yaml"
    file.write_text(VALID)
    with pytest.raises(UserError, match="The 'name' field must be lower-case letters"):
        parse_file(file)


def test_merge_keys_share_what_is_equal(folder: Path) -> None:
    text = VALID.replace("x: {}", "x: &number {min: 0, max: 1}\n    z: {<<: *number, max: 2}")
    (folder / "small.yaml").write_text(text)
    columns = load("small").data.columns
    assert (columns["z"].min, columns["z"].max) == (0, 2)


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
        ("source", "said"),
        [("def jion(tables): ...", "Did you mean 'jion'?"), ("def join(:", "name a module of Py")],
    )
    def test_is_missing(self, problems: Problems, tmp_path: Path, source: str, said: str) -> None:
        (tmp_path / "small.py").write_text(source)
        assert said in problems(self.CHANGE)[0]


def test_reading_files_imports_no_ml_library(tmp_path: Path) -> None:
    """How long it takes is measured by benchmarks/parse.py."""
    for i in range(50):
        text = REFERENCE.read_text().replace("schedule: null", f'schedule: "{i} 1 * * *"')
        (tmp_path / f"copy_{i}.yaml").write_text(text)
    program = """
import sys
from tasks.pipeline.load import load, names
loaded = [load(name) for name in names()]
assert len(loaded) == 50
heavy = {"mlflow", "sklearn", "tensorflow", "keras", "hyperopt", "pandas", "boto3", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"MLOPS_PIPELINES": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**40, 10**400, 1e308, 1e-308, -0.0])
    | st.sampled_from(["", "a", "[", "https://[x/y", "s3://", "é", "true", "1e400", "log(0)"])
    | st.sampled_from([".", "@", "%", "{}", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "estimator", "uniform", "choice", "x"]), inner)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, key))


@pytest.mark.parametrize("name", ["diabetes_progression", "diabetes_risk", "wine_quality"])
@given(data=st.data())
@hypothesis.settings(max_examples=200, deadline=None)
def test_no_value_anywhere_is_more_than_a_mistake(name: str, data: st.DataObject) -> None:
    file = REPOSITORY / "pipelines" / f"{name}.yaml"
    raw = copy.deepcopy(document.read(file).data)
    *path, last = data.draw(st.sampled_from(list(places(raw))[1:]))
    functools.reduce(operator.getitem, path, raw)[last] = data.draw(ODD)

    found = check({"name": name, **raw}, file.parent)

    assert isinstance(found, Pipeline) or all(map(str, found))
