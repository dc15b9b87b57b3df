"""`predict` against a real scoring server; a path prefix takes the gateway's place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from sklearn.linear_model import Ridge
from starlette.applications import Starlette
from starlette.routing import Mount
from typer.testing import CliRunner, Result

from tasks.base.errors import UnavailableError, UserError
from tasks.base.settings import settings
from tasks.cli import predict
from tasks.serving.gateway import upstreams
from tasks.serving.server import app
from tasks.serving.server.scorer import Scorer
from tests.tasks.serving import examples

EXPECTED = examples.fitted(Ridge()).predict(examples.ROWS.head(2)).tolist()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = examples.save(tmp_path_factory.mktemp("models") / "ridge", Ridge())
    application = Starlette(
        routes=[Mount("/models/ridge", app.create(Scorer.load(folder), "ridge", 4))]
    )
    with examples.serve(application) as address:
        yield address


@pytest.fixture(autouse=True)
def endpoint(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "gateway" / "upstreams").mkdir(parents=True)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "wine.yaml").touch()
    upstreams.switch(tmp_path / "gateway", "ridge", [address])
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("MLOPS_PIPELINES", str(tmp_path / "pipelines"))
    monkeypatch.setenv("MLOPS_GATEWAY_URL", f"http://{address}")
    monkeypatch.setenv("MLOPS_GATEWAY_FOLDER", str(tmp_path / "gateway"))
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    application = typer.Typer()
    predict.register(application)
    return CliRunner().invoke(application, arguments, input=stdin)


def failed(*arguments: str, stdin: bytes | None = None) -> BaseException:
    error = run(*arguments, stdin=stdin).exception
    assert error is not None
    return error


def refused(stdin: bytes) -> str:
    """The message for a file that is the user's to correct."""
    error = failed("ridge", "-", stdin=stdin)
    assert isinstance(error, UserError)
    return str(error)


ROWS = examples.ROWS.head(2)
FILES = {
    "rows.csv": ROWS.to_csv(index=False).encode(),
    "rows.parquet": examples.parquet(ROWS),
    "records.json": ROWS.to_json(orient="records").encode(),
    "split.json": ROWS.to_json(orient="split").encode(),
    "rows.jsonl": ROWS.to_json(orient="records", lines=True).encode(),
    "mlflow.json": json.dumps({"inputs": ROWS.to_dict("records")}).encode(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_every_format(name: str, source: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(FILES[name])
    if source == "file":
        done = run("ridge", str(file), "--json")
    else:
        done = run("ridge", "-", "--json", stdin=FILES[name])
    answer = json.loads(done.stdout)
    assert (answer["name"], answer["version"]) == ("ridge", 4)
    assert answer["predictions"] == pytest.approx(EXPECTED, rel=1e-9)


def test_one_record_as_a_table() -> None:
    done = run("ridge", "-", stdin=json.dumps(ROWS.iloc[0].to_dict()).encode())
    assert "ridge version 4" in done.stdout
    assert f"{EXPECTED[0]:.6g}" in done.stdout
    assert done.exit_code == 0


PIPELINE = """
description: a test
owner: tests
data:
  sources:
    - uri: https://example.com/rows.parquet
    - uri: file://train.csv
      options: {sep: ";", decimal: ",", encoding: latin-1}
      constants: {note: training}
  target: target
  task: regression
  columns:
    note: {type: string, nullable: true}
    target: {}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> None:
    """The model's pipeline file; its CSV source is as spreadsheets write it."""
    columns = "".join(f"    {name}: {{min: 1000, nullable: true}}\n" for name in ROWS)
    search = "search:\n  space: {estimator: ridge}\nmetric: rmse\n"
    (tmp_path / "pipelines" / "ridge.yaml").write_text(PIPELINE.lstrip() + columns + search)


@pytest.mark.usefixtures("pipeline")
def test_csv_is_read_as_the_pipelines_own_source(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    rows = ROWS.assign(note="größer", other="ignored", target=None)
    file.write_bytes(rows.to_csv(index=False, sep=";", decimal=",").encode("latin-1"))
    for arguments, stdin in (((str(file),), None), (("-",), file.read_bytes())):
        answer = json.loads(run("ridge", *arguments, "--json", stdin=stdin).stdout)
        assert answer["predictions"] == pytest.approx(EXPECTED, rel=1e-9)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    answer = json.loads(run("ridge", str(packed), "--json").stdout)
    assert answer["predictions"] == pytest.approx(EXPECTED, rel=1e-9)


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b"age|bmi\n1|2", 'sep: "|"'),
        (b"age;bmi\n1;2\n3;many", "row 2: bmi must be a number"),
        (b"age;bmi\n1;2", "no column 'sex'"),
        (b"age;bmi\n1;2;3", "cannot be read as csv"),
    ],
)
def test_csv_that_is_not_as_the_pipelines_own_source(stdin: bytes, words: str) -> None:
    assert words in refused(stdin)


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b'{"age": 1}\n{"age": 2', "line 2: Expecting"),
        (b'{"age":\n1', "line 2 column 2"),
        (b"[", "is not valid JSON"),
    ],
)
def test_files_that_are_not_json(stdin: bytes, words: str) -> None:
    assert words in refused(stdin)


def test_probabilities_are_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"predictions": ["[b]", "a"], "classes": ["[b]", "a"],
               "probabilities": [[0.75, 0.25], [1.5e-05, 0.999985]]}  # fmt: skip
    monkeypatch.setattr(predict, "_post", lambda *_: httpx.Response(200, json=content))
    output = run("ridge", "-", stdin=b"{}").stdout
    for words in ("probability of [b]", "0.75", "1.5e-05"):
        assert words in output


def test_the_servers_words_for_a_bad_request() -> None:
    error = failed("ridge", "-", stdin=b'{"age": 1}')
    assert isinstance(error, UserError)
    assert error.exit_code == 2
    assert "no column 'sex'" in error.why


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rigde", "-"), "Did you mean 'ridge'?"),
        (("wine", "-"), "./mlops run wine"),
        (("../ridge", "-"), "Endpoints: 'ridge'"),
        (("ridge", "/nowhere.csv"), "cannot be read"),
        (("ridge", "-"), "not valid JSON"),
    ],
)
def test_bad_calls(arguments: tuple[str, ...], words: str) -> None:
    error = failed(*arguments, stdin=b"{")
    if arguments[0] != "ridge":
        error = failed(*arguments, stdin=b"{}")
    assert isinstance(error, UserError)
    assert words in str(error)


def test_a_gateway_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_GATEWAY_URL", "http://127.0.0.1:1")
    settings.cache_clear()
    error = failed("ridge", "-", stdin=b"{}")
    assert isinstance(error, UnavailableError)
    assert error.exit_code == 3


def test_a_broken_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(FILES["rows.parquet"][:-10])
    error = failed("ridge", str(tmp_path / "rows.parquet"))
    assert isinstance(error, UserError)
    assert "not valid Parquet" in str(error)
