from __future__ import annotations

import socket
from typing import Any
from uuid import uuid4

import pytest
import typer
from typer.testing import CliRunner

from tasks.base.errors import UnavailableError, UserError
from tasks.base.refs import VersionRef
from tasks.base.settings import Settings, settings
from tasks.cli import register as command
from tasks.clients import tracking
from tasks.clients.orchestrator import Airflow

SHIPPED = "diabetes_progression"
RUN = "0123456789abcdef" * 2
VERSION = VersionRef(name=SHIPPED, run_id=RUN, pipeline_uri="p", snapshot_uri="s", version=1)


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_mistakes_are_named_before_airflow_is_asked(servers: Settings) -> None:
    empty = tracking.client().create_run(tracking.experiment(f"hand_{uuid4().hex[:8]}"))
    for arguments, what in (
        ((RUN, f"{SHIPPED}s"), "There is no pipeline"),
        ((RUN, SHIPPED), "There is no run"),
        ((empty.info.run_id, SHIPPED), "has no logged model"),
    ):
        error = invoke(*arguments).exception
        assert isinstance(error, UserError)
        assert what in error.what


def test_without_a_stack_there_is_one_clear_error(servers: Settings) -> None:
    # A port that is held without listening: another test could take an unused one.
    with socket.socket() as held, pytest.MonkeyPatch.context() as patch:
        held.bind(("127.0.0.1", 0))
        patch.setenv("MLOPS_AIRFLOW_URL", f"http://127.0.0.1:{held.getsockname()[1]}/airflow")
        settings.cache_clear()
        patch.setattr("tasks.register.check", lambda *_, **__: VERSION)
        error = invoke(RUN, SHIPPED).exception
    settings.cache_clear()
    assert isinstance(error, UnavailableError)
    assert "Airflow does not answer" in error.what


def test_it_starts_the_dag_with_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    request: dict[str, Any] = {}

    def trigger(_: Airflow, dag_id: str, conf: dict[str, Any], note: str) -> str:
        request.update(dag_id=dag_id, conf=conf, note=note)
        return "manual__1"

    monkeypatch.setattr("tasks.register.check", lambda *_, **__: VERSION)
    monkeypatch.setattr(Airflow, "dag_exists", lambda *_: True)
    monkeypatch.setattr(Airflow, "trigger", trigger)
    result = invoke(RUN, SHIPPED, "--snapshot", "s3://data/m.json", "--json")
    assert result.exit_code == 0
    assert request["dag_id"] == "register"
    assert request["conf"] == {
        "run_id": RUN, "name": SHIPPED, "snapshot": "s3://data/m.json", "model": None,
    }  # fmt: skip
    assert '"manual__1"' in result.stdout
