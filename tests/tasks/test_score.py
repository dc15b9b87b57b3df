"""Predictions for files, and a model's metrics on a snapshot's part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tasks.base.errors import UserError
from tasks.base.settings import Settings, settings
from tasks.clients import tracking
from tasks.pipeline.load import load
from tasks.prepare import make
from tasks.records.snapshots import read_part
from tasks.score import measure, score

measured = partial(measure, make_snapshot=make.make_snapshot)

NAME = "scored"
FILE = """\
description: The age of a person from a code, which is text, and a size
owner: tests
data:
  sources: [{uri: "file://rows.csv"}]
  target: age
  task: regression
  columns:
    code: {type: category}
    size: {min: 0, nullable: true}
    age: {}
features: {impute: {numeric: none}}
search: {trials: 1, slots: 1, space: {estimator: linear}}
metric: rmse
"""


@pytest.fixture(scope="module")
def version(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A champion that reads a code such as "007" as text."""
    folder = tmp_path_factory.mktemp("pipelines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PIPELINES", str(folder))
        settings.cache_clear()
        yield registered(folder)
    settings.cache_clear()


def registered(
    folder: Path,
    name: str = NAME,
    code: str = "code",
    size: str = "size",
    options: dict[str, str] | None = None,
) -> int:
    """A champion of a pipeline whose features have these names, with the source's options."""
    body = yaml.safe_load(FILE.replace("rows.csv", f"{name}.csv"))
    columns, options = body["data"]["columns"], options or {}
    body["data"]["columns"] = {
        code: columns["code"], size: columns["size"], "age": columns["age"],
    }  # fmt: skip
    body["data"]["sources"][0]["options"] = options
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({code: rng.choice(["007", "7"], 300), size: rng.uniform(0, 9, 300)})
    rows["age"] = (rows[code] == "007") * 50 + rows[size] + rng.normal(size=300)
    rows.to_csv(folder / f"{name}.csv", index=False, **options)
    manifest = make.make_snapshot(load(name))
    train = read_part(manifest, "train")
    features, client = train[[code, size]], tracking.client()
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), [code]), remainder="passthrough"),
        LinearRegression(),
    ).fit(features, train["age"])
    with mlflow.start_run(experiment_id=tracking.experiment(name)):
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(features, model.predict(features)),
            pip_requirements=["scikit-learn"],
            registered_model_name=name,
        )
    number = int(logged.registered_model_version)
    client.set_model_version_tag(name, str(number), tracking.SNAPSHOT, manifest.uri)
    client.set_registered_model_alias(name, tracking.CHAMPION, str(number))
    return number


ROWS = pd.DataFrame(
    {"id": ["0001", "0002", "0003"], "size": [1.5, 2.0, 3.25], "code": ["007", "7", "007"]}
)


def write(rows: pd.DataFrame, path: Path) -> Path:
    match path.suffixes[0]:
        case ".csv":
            rows.to_csv(path, index=False)
        case ".jsonl":
            rows.to_json(path, orient="records", lines=True)
        case _:
            rows.to_parquet(path, index=False)
    return path


def read(path: Path) -> pd.DataFrame:
    match path.suffixes[0]:
        case ".csv":
            return pd.read_csv(path, dtype={"id": "str", "code": "str"})
        case ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        case _:
            return pd.read_parquet(path)


@pytest.mark.parametrize("source", ["rows.csv", "rows.jsonl", "rows.parquet", "rows.csv.gz"])
@pytest.mark.parametrize("target", ["out.csv", "out.jsonl.gz", "out.parquet"])
def test_every_row_comes_back_with_its_prediction(
    version: int, tmp_path: Path, source: str, target: str
) -> None:
    scored = score(NAME, write(ROWS, tmp_path / source), tmp_path / target)
    assert (scored.rows, scored.model_uri) == (3, f"models:/{NAME}/{version}")
    written = read(tmp_path / target)
    assert list(written) == ["id", "size", "code", "prediction"]
    assert written["id"].tolist() == ["0001", "0002", "0003"]
    assert written["code"].tolist() == ["007", "7", "007"]
    assert written["size"].astype(float).tolist() == [1.5, 2.0, 3.25]
    expected = mlflow.sklearn.load_model(scored.model_uri).predict(ROWS[["code", "size"]])
    assert written["prediction"].to_numpy() == pytest.approx(expected, rel=1e-12)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_csv_is_read_as_the_pipelines_own_source_is(version: int, tmp_path: Path) -> None:
    registered(settings().pipelines, "german", options={"sep": ";", "decimal": ","})
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id;code;size\n0001;007;1,5\n0002;7;NA\n0003;7;2,25\n")
    with pytest.raises(UserError, match="cannot predict the rows"):  # NA is a missing size
        score("german", source, target)
    source.write_text("id;code;size;share\n0001;007;1,5;NA\n0003;7;2,25;3,5\n")
    score("german", source, target)
    written = pd.read_csv(target, dtype="str", keep_default_na=False)
    assert written["id"].tolist() == ["0001", "0003"]
    assert written["share"].tolist() == ["NA", "3,5"]
    model = mlflow.sklearn.load_model("models:/german@champion")
    rows = pd.DataFrame({"code": ["007", "7"], "size": [1.5, 2.25]})
    assert written["prediction"].astype(float).to_numpy() == pytest.approx(model.predict(rows))


def test_other_columns_are_written_unchanged(version: int, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("country,code,size\nNA,007,1\nNone,7,2\n")

    score(NAME, source, target)

    assert [line.rsplit(",", 1)[0] for line in target.read_text().splitlines()] == [
        "country,code,size", "NA,007,1", "None,7,2",
    ]  # fmt: skip


def test_keys_of_json_lines_stay_text(version: int, tmp_path: Path) -> None:
    """pandas turns keys of digits into numbers."""
    registered(settings().pipelines, "numbered", "0", "07")
    source, target = tmp_path / "in.jsonl", tmp_path / "out.csv"
    source.write_text('{"0": "007", "07": 1}\n')

    score("numbered", source, target)

    assert target.read_text().startswith("0,07,prediction\n007,1,")


def test_a_file_can_be_scored_onto_itself(version: int, tmp_path: Path) -> None:
    path = write(ROWS, tmp_path / "rows.parquet")
    score(NAME, path, path, str(version))
    assert "prediction" in read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": None}, "has no column 'code'"),
        ({"size": ["1", "x", "2"]}, "row 2: size must be a number"),
        ({"prediction": [1, 2, 3]}, "already has a column 'prediction'"),
    ],
)
def test_rows_that_cannot_be_scored_are_named_and_nothing_is_written(
    version: int, tmp_path: Path, changes: dict, message: str
) -> None:
    rows = ROWS.assign(**changes)
    rows = rows.drop(columns=[name for name, values in changes.items() if values is None])
    with pytest.raises(UserError, match=message):
        score(NAME, write(rows, tmp_path / "rows.csv"), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_model_that_accepts_no_missing_value_says_so(version: int, tmp_path: Path) -> None:
    rows = write(ROWS.assign(size=[1.0, None, 2.0]), tmp_path / "rows.csv")
    with pytest.raises(UserError, match="cannot predict the rows") as raised:
        score(NAME, rows, tmp_path / "out.csv")
    assert "NaN" in raised.value.why


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("none.csv", "out.csv", "champion"), "cannot be read"),
        (("cut.csv.gz", "out.csv", "champion"), "cannot be read as csv"),
        (("rows.csv", "out.xlsx", "champion"), "csv, parquet or jsonl"),
        (("rows.csv", "none/out.csv", "champion"), "cannot be written"),
        (("rows.csv", "out.csv", "99"), "no version or alias '99'"),
        (("rows.csv", "out.csv", "champoin"), "no version or alias 'champoin'"),
    ],
)
def test_mistakes_are_named(
    version: int, tmp_path: Path, files: tuple[str, str, str], message: str
) -> None:
    source, target, model = files
    write(ROWS, tmp_path / "rows.csv")
    whole = write(ROWS, tmp_path / "whole.csv.gz").read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=message):
        score(NAME, tmp_path / source, tmp_path / target, model)


def test_a_model_is_measured_on_the_snapshot_of_its_version(version: int) -> None:
    figures = measured(NAME)
    manifest = make.make_snapshot(load(NAME))
    rows = read_part(manifest, "test")
    errors = (
        mlflow.sklearn.load_model(f"models:/{NAME}/{version}").predict(rows[["code", "size"]])
        - rows["age"]
    )
    assert figures.snapshot_uri == manifest.uri
    assert figures.figures["test_mae"] == pytest.approx(errors.abs().mean())
    run = tracking.client().get_model_version(NAME, str(version)).run_id
    assert measured(NAME, run, "test", manifest.uri).figures == figures.figures
    assert measured(NAME, part="train").figures["train_mae"] < 1.2


def test_an_unknown_part_is_named(version: int) -> None:
    with pytest.raises(UserError, match="train, validation, test"):
        measured(NAME, part="tests")
