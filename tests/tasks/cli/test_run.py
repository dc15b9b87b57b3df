from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tasks.cli import run as command

NAME = "diabetes_progression"


def invoke(*words: str) -> Any:
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["run", NAME, *words])


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow is another test's matter: tests/chain has it."""
    monkeypatch.setattr(command, "start", lambda *_: "manual__1")


def test_a_watched_promotion_ends_with_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    came = {"text": "passed", "promoted": True, "version": 3}
    waited: list[tuple[str, int]] = []
    monkeypatch.setattr(command, "follow", lambda *_, **__: "success")
    monkeypatch.setattr(command, "outcome", lambda *_: came)
    monkeypatch.setattr(command, "until_served", lambda *what: waited.append(what))
    said = " ".join(invoke("--wait").stdout.split())
    assert waited == [(NAME, 3)]
    assert f"Version 3 is champion and served; try ./mlops predict {NAME} FILE" in said


def test_ctrl_c_says_that_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "follow", interrupted)
    done = invoke("--wait")
    assert done.exit_code == 130
    assert "manual__1 continues in Airflow" in " ".join(done.stderr.split())
