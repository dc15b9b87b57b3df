"""What `status` says about endpoints; test_deploy tests it behind a gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.base.settings import REPOSITORY, settings
from tasks.serving.endpoints import Endpoint, endpoints
from tasks.serving.gateway import upstreams


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The settings of a stack that does not run."""
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("MLOPS_GATEWAY_URL", "http://127.0.0.1:8000")
    monkeypatch.setenv("MLOPS_GATEWAY_FOLDER", str(tmp_path / "gateway"))
    settings.cache_clear()
    yield tmp_path / "gateway"
    monkeypatch.undo()
    settings.cache_clear()


def test_nothing_was_ever_deployed() -> None:
    assert endpoints() == {}


def test_the_stack_does_not_run(folder: Path) -> None:
    (folder / "upstreams").mkdir(parents=True)
    upstreams.switch(folder, "wine", ["127.0.0.1:1"])
    assert endpoints() == {
        "wine": Endpoint("http://127.0.0.1:8000/models/wine", None, "failed"),
    }


def test_the_command_line_needs_no_ml_library_for_it() -> None:
    heavy = ["mlflow", "sklearn", "pandas", "numpy", "boto3", "fastapi"]
    code = (
        "import json, sys, tasks.serving.endpoints, tasks.serving.targets.process;"
        "import tasks.serving.smoke, tasks.cli.predict;"
        f" print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
