from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.base.errors import RunFailedError
from tasks.serving import model_files, smoke
from tasks.serving.server import app
from tasks.serving.server.scorer import Scorer
from tasks.serving.targets.deployment import Deployment
from tests.tasks.serving import examples


@pytest.fixture(scope="module")
def address(ridge: Path) -> Iterator[str]:
    """A running server of `ridge` version 3."""
    with examples.serve(app.create(Scorer.load(ridge), "ridge", 3)) as address:
        yield address


def deployment(address: str, version: int = 3) -> Deployment:
    return Deployment("ridge", version, (address,), "running")


def changed(model: Path, folder: Path, **metadata: Any) -> Path:
    """A copy of the model's MLmodel file with other metadata."""
    folder.mkdir()
    shutil.copy(model / "MLmodel", folder)
    content = yaml.safe_load((folder / "MLmodel").read_text())
    content["metadata"] = metadata
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    return folder


def test_a_good_server_passes(address: str, ridge: Path) -> None:
    smoke.check(deployment(address), ridge)


def test_another_version_fails(address: str, ridge: Path) -> None:
    with pytest.raises(RunFailedError, match=r"must have version 4\. Got 3 instead"):
        smoke.check(deployment(address, version=4), ridge)


def test_other_predictions_fail(address: str, ridge: Path, tmp_path: Path) -> None:
    test = model_files.read_card(ridge).smoke_test
    assert test is not None
    off = [test["predictions"][0] * (1 + 1e-6), *test["predictions"][1:]]
    model = changed(ridge, tmp_path / "model", smoke_test={**test, "predictions": off})
    with pytest.raises(RunFailedError, match="logged example must give"):
        smoke.check(deployment(address), model)


def test_a_model_without_a_logged_example_fails(address: str, ridge: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="without metadata 'smoke_test'"):
        smoke.check(deployment(address), changed(ridge, tmp_path / "model"))


def test_a_server_that_takes_wrong_input_fails(address: str, ridge: Path, tmp_path: Path) -> None:
    """As if the signature had a column, and a number, that the server does not check."""
    test = model_files.read_card(ridge).smoke_test
    assert test is not None
    columns, rows = test["inputs"]["columns"], test["inputs"]["data"]
    wider = {"columns": ["extra", *columns], "data": [[1.0, *row] for row in rows]}
    model = changed(ridge, tmp_path / "model", smoke_test={**test, "inputs": wider})
    content = yaml.safe_load((model / "MLmodel").read_text())
    content["signature"]["inputs"] = '[{"type": "double", "name": "extra", "required": true}]'
    (model / "MLmodel").write_text(yaml.safe_dump(content))
    with pytest.raises(RunFailedError) as raised:
        smoke.check(deployment(address), model)
    assert "without 'extra' must get a 4xx. Got 200" in raised.value.why
    assert "with text for 'extra' must get a 4xx. Got 200" in raised.value.why


def test_no_server_fails(ridge: Path) -> None:
    with pytest.raises(RunFailedError, match="It does not answer"):
        smoke.check(deployment("127.0.0.1:1"), ridge)


class Babble(BaseHTTPRequestHandler):
    """Answers every request with 200 and a page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works</html>")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None: ...


def test_a_server_of_something_else_fails(ridge: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Babble) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(RunFailedError) as raised:
            smoke.check(deployment(f"127.0.0.1:{server.server_port}"), ridge)
        server.shutdown()
    assert "does not follow MLflow's protocol" in raised.value.why


@pytest.mark.parametrize(
    ("actual", "expected", "equal"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-12], True),
        ([1.0], [1.0 + 1e-6], False),
        ([1], [1.0], True),
        (["a", "b"], ["a", "b"], True),
        (["a"], ["b"], False),
        ([1], [2], False),
        ([0.1], [0.1, 0.2], False),
        ([[0.1, 0.9]], [[0.1, 0.9 + 1e-13]], True),
        (None, [1.0], False),
    ],
)
def test_same(actual: Any, expected: Any, equal: bool) -> None:
    assert smoke.same(actual, expected) is equal
