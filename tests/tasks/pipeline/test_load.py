from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.errors import UserError
from tasks.pipeline.load import load, names, parse_file
from tasks.pipeline.schema import Pipeline
from tasks.settings import REPOSITORY
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
        ("search:", "search:\n  trials: many", "must be an integer. Got 'many' instead."),
        ("search:", "search:\n  trials: 0", "18: The 'search.trials' field must be at least 1."),
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
        ("[log(1e-3), log(100)]", "[log(100), log(1e-3)]", "must have low < high."),
        ("file://rows.csv", "flie://rows.csv", "5: The 'data.sources.0.uri' field must begin with"),
        ("file://rows.csv", "rows.csv", "must begin with sklearn://"),
        ("file://rows.csv", "https://example.org/a*.csv", "only file:// and s3:// may hold *"),
        (
            "file://rows.csv",
            f"file://rows-*.csv\n      sha256: {'a' * 64}",
            "6: The 'data.sources.0.sha256' field must be left out",
        ),
        ("file://rows.csv", "file://r.csv\n      sha256: abc", "must be 64 hexadecimal digits"),
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
        ("owner: someone", "owner: a\nowner: b", "3: The 'owner' field must be given once."),
        ("metric: rmse", "metric: rmse\ngate: {thresholds: {rmes: 1}}", "Did you mean 'rmse'?"),
        (
            "metric: rmse",
            "metric: rmse\ngate: {thresholds: {f1: 1}}",
            "be named as a metric of reg",
        ),
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
