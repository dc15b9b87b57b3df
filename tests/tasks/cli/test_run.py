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
    """No Airflow runs here; tests/chain has it."""
    monkeypatch.setattr(command, "start", lambda *_: "manual__1")


def test_a_watched_promotion_ends_with_what_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = {"text": "passed", "promoted": True, "version": 3}
    waited: list[tuple[str, int]] = []
    monkeypatch.setattr(command, "follow", lambda *_, **__: "success")
    monkeypatch.setattr(command, "outcome", lambda *_: outcome)
    monkeypatch.setattr(command, "until_served", lambda *what: waited.append(what))
    printed = " ".join(invoke("--wait").stdout.split())
    assert waited == [(NAME, 3)]
    assert f"Version 3 is champion and served; try ./mlops predict {NAME} FILE" in printed


def test_ctrl_c_says_that_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "follow", interrupted)
    result = invoke("--wait")
    assert result.exit_code == 130
    assert "manual__1 continues in Airflow" in " ".join(result.stderr.split())
