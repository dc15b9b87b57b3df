from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from tasks.base.errors import UserError
from tasks.base.settings import REPOSITORY, settings
from tasks.cli import files
from tasks.pipeline import editor_schema, reference
from tasks.pipeline.load import load, parse_file

EXAMPLE = (REPOSITORY / "pipelines" / "diabetes_progression.yaml").read_text()
APP = typer.Typer()
files.register(APP)
RUNNER = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MLOPS_PIPELINES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    (tmp_path / "good.yaml").write_text(EXAMPLE)
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def bad(folder: Path) -> Path:
    file = folder / "bad.yaml"
    file.write_text(EXAMPLE.replace("trials: 40", "trials: 0").replace("rmse: 75", "rsme: 75"))
    return file


def test_list(folder: Path) -> None:
    result = RUNNER.invoke(APP, ["pipelines"])
    assert result.exit_code == 0
    assert "good" in result.stdout
    assert "rmse" in result.stdout


def test_list_as_json(folder: Path) -> None:
    (row,) = json.loads(RUNNER.invoke(APP, ["pipelines", "--json"]).stdout)
    assert row["name"] == "good"
    assert (row["schedule"], row["metric"], row["trials"]) == (None, "rmse", 40)
    assert "gradient_boosting" in row["families"]


def test_list_with_a_bad_file(bad: Path) -> None:
    result = RUNNER.invoke(APP, ["pipelines", "--json"])
    assert result.exit_code == 2
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert "problems" not in rows["good"]
    assert [problem["field"] for problem in rows["bad"]["problems"]] == [
        "search.trials",
        "gate.thresholds.rsme",
    ]


def test_one_resolved_is_a_file_again(folder: Path) -> None:
    (folder / "good.yaml").write_text(EXAMPLE[: EXAMPLE.index("\ngate:")])
    shown = RUNNER.invoke(APP, ["pipelines", "good"]).stdout
    assert yaml.safe_load(shown)["gate"]["resamples"] == 2000
    (folder / "sub").mkdir()
    (folder / "sub" / "good.yaml").write_text(shown)
    assert parse_file(folder / "sub" / "good.yaml") == load("good")
    as_json = json.loads(RUNNER.invoke(APP, ["pipelines", "good", "--json"]).stdout)
    assert as_json == yaml.safe_load(shown)


def test_an_unknown_name(folder: Path) -> None:
    result = RUNNER.invoke(APP, ["pipelines", "goood"])
    assert isinstance(result.exception, UserError)
    assert "Did you mean 'good'?" in str(result.exception)


def test_check_all(folder: Path) -> None:
    result = RUNNER.invoke(APP, ["check"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "ok good.yaml"


def test_check_prints_every_problem_with_its_line(bad: Path) -> None:
    result = RUNNER.invoke(APP, ["check", "bad", "good.yaml"])
    assert result.exit_code == 2
    assert result.stdout.splitlines()[0] == "ok good.yaml"
    lines = EXAMPLE.splitlines()
    trials = next(i for i, line in enumerate(lines, 1) if line.startswith("  trials:"))
    message = "The 'search.trials' field must be at least 1. Got 0 instead."
    assert f"bad.yaml:{trials}: {message}" in result.stderr
    assert "Did you mean 'rmse'?" in result.stderr


def test_check_as_json(bad: Path) -> None:
    result = RUNNER.invoke(APP, ["check", "--json"])
    assert result.exit_code == 2
    wrong, right = json.loads(result.stdout)
    assert right == {"file": "good.yaml", "ok": True, "problems": []}
    assert wrong["problems"][0]["field"] == "search.trials"


def test_check_of_a_file_that_is_not_there(folder: Path) -> None:
    assert RUNNER.invoke(APP, ["check", "none.yaml"]).exit_code == 2
    result = RUNNER.invoke(APP, ["check", "goood"])
    assert "Did you mean 'good'?" in str(result.exception)


def test_check_of_an_empty_folder(folder: Path) -> None:
    (folder / "good.yaml").unlink()
    assert isinstance(RUNNER.invoke(APP, ["check"]).exception, UserError)


def test_deep_check_fits_the_models(folder: Path) -> None:
    assert RUNNER.invoke(APP, ["check", "--deep"]).exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("l1_ratio: {uniform: [0.05, 1]}", "l1_ratio: 3.0", "'l1_ratio' parameter of ElasticNet"),
        ("l1_ratio: {uniform", "l1_ration: {uniform", "Did you mean 'l1_ratio'?"),
    ],
)
def test_deep_check_finds_what_a_family_refuses(
    folder: Path, old: str, new: str, message: str
) -> None:
    assert old in EXAMPLE
    (folder / "good.yaml").write_text(EXAMPLE.replace(old, new))
    assert RUNNER.invoke(APP, ["check"]).exit_code == 0
    result = RUNNER.invoke(APP, ["check", "--deep"])
    assert result.exit_code == 2
    assert message in result.stderr


def test_deep_check_reads_the_data_and_keeps_nothing(folder: Path) -> None:
    good = RUNNER.invoke(APP, ["check", "--deep", "good"])
    assert good.stdout.strip() == "ok good.yaml: 442 rows"
    assert "--deep" in RUNNER.invoke(APP, ["check", "good"]).stderr

    rows = folder / "rows.csv"
    file = folder / "mine.yaml"
    file.write_text(EXAMPLE.replace("sklearn://diabetes", "file://rows.csv"))
    for content, words in (
        (None, "No such file"),
        (b"age;sex;bmi\n1;2;3\n", "Name the separator"),
        (b"age,sex,bmi\n1,2,3\n", "column 'bp' is missing"),
    ):
        if content:
            rows.write_bytes(content)
        assert RUNNER.invoke(APP, ["check", "mine"]).exit_code == 0
        result = RUNNER.invoke(APP, ["check", "--deep", "mine"])
        assert result.exit_code == 2
        assert words in result.stderr
        (report,) = json.loads(RUNNER.invoke(APP, ["check", "--deep", "--json", "mine"]).stdout)
        assert (report["ok"], report["problems"][0]["field"]) == (False, "data")
        assert words in report["problems"][0]["message"]


def test_deep_check_finds_bad_rows(folder: Path) -> None:
    from sklearn.datasets import load_diabetes

    table = load_diabetes(as_frame=True, scaled=False).frame
    table.loc[6, "bmi"] = -1
    table.to_csv(folder / "rows.csv", index=False)
    text = EXAMPLE.replace("sklearn://diabetes", "file://rows.csv")
    (folder / "mine.yaml").write_text(text)
    result = RUNNER.invoke(APP, ["check", "--deep", "mine"])
    assert "1 of 442 rows break the rules" in result.stderr
    assert "row 7: bmi is -1" in result.stderr
    (folder / "mine.yaml").write_text(text.replace("bad_rows: reject", "bad_rows: drop"))
    result = RUNNER.invoke(APP, ["check", "--deep", "mine"])
    assert result.stdout.splitlines() == [
        "ok mine.yaml: 441 rows, 1 more left out as bad",
        "  bmi must be at least 10: 1 rows",
    ]


def test_data_out_of_reach_are_no_mistake_of_the_file(folder: Path) -> None:
    text = EXAMPLE.replace("sklearn://diabetes", "s3://lake/rows.csv")
    (folder / "mine.yaml").write_text(text.replace("connection: null", "connection: sales"))
    result = RUNNER.invoke(APP, ["check", "--deep", "mine"])
    assert "There is no connection 'sales'" in result.stderr
    assert result.exit_code == 3


def test_a_grid_is_tried_whole_or_check_tells_what_is_not(folder: Path) -> None:
    body = yaml.safe_load(EXAMPLE)
    del body["search"]["trials"]
    body["search"] |= {
        "algorithm": "grid",
        "space": {"estimator": "ridge", "alpha": {"qloguniform": ["log(1)", "log(60)", 1]}},
        "points": [],
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(body))
    shown = json.loads(RUNNER.invoke(APP, ["pipelines", "mine", "--json"]).stdout)
    assert shown["search"]["trials"] == 60
    assert RUNNER.invoke(APP, ["check", "mine"]).stdout.strip() == "ok mine.yaml"
    body["search"]["trials"] = 40
    (folder / "mine.yaml").write_text(yaml.safe_dump(body))
    result = RUNNER.invoke(APP, ["check", "mine"])
    assert result.stdout.strip() == "ok mine.yaml; 40 trials leave out 20 points of the grid"


def test_a_yml_file_is_no_pipeline(folder: Path) -> None:
    (folder / "good.yaml").rename(folder / "good.yml")
    result = RUNNER.invoke(APP, ["check", "good.yml"])
    assert result.exit_code == 2
    assert "ends in .yaml" in result.stderr


def test_schema(folder: Path) -> None:
    assert RUNNER.invoke(APP, ["schema"]).stdout == editor_schema.text()


def test_schema_and_reference_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema, manual = tmp_path / "schema.json", tmp_path / "reference.md"
    right = reference.FILE.read_text()
    manual.write_text(right.replace("The column to predict.", "Something else."))
    monkeypatch.setattr(editor_schema, "FILE", schema)
    monkeypatch.setattr(reference, "FILE", manual)
    result = RUNNER.invoke(APP, ["schema", "--write"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert schema.read_text() == editor_schema.text()
    assert manual.read_text() == right
