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
FOUND = VersionRef(name=SHIPPED, run_id=RUN, pipeline="p", snapshot="s", version=1)


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_mistakes_are_named_before_airflow_is_asked(servers: Settings) -> None:
    empty = tracking.client().create_run(tracking.experiment(f"hand_{uuid4().hex[:8]}"))
    for arguments, said in (
        ((RUN, f"{SHIPPED}s"), "There is no pipeline"),
        ((RUN, SHIPPED), "There is no run"),
        ((empty.info.run_id, SHIPPED), "has no logged model"),
    ):
        error = invoke(*arguments).exception
        assert isinstance(error, UserError)
        assert said in error.what


def test_without_a_stack_there_is_one_clear_error(servers: Settings) -> None:
    def nothing(*_: object, **__: object) -> VersionRef:
        return FOUND

    # A port that is held and not listened on: an unused one may be another test's by then.
    with socket.socket() as held, pytest.MonkeyPatch.context() as patch:
        held.bind(("127.0.0.1", 0))
        patch.setenv("MLOPS_AIRFLOW_URL", f"http://127.0.0.1:{held.getsockname()[1]}/airflow")
        settings.cache_clear()
        patch.setattr("tasks.register.check", nothing)
        error = invoke(RUN, SHIPPED).exception
    settings.cache_clear()
    assert isinstance(error, UnavailableError)
    assert "Airflow does not answer" in error.what


def test_it_starts_the_dag_with_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def trigger(_: Airflow, dag_id: str, conf: dict[str, Any], note: str) -> str:
        asked.update(dag_id=dag_id, conf=conf, note=note)
        return "manual__1"

    monkeypatch.setattr("tasks.register.check", lambda *_, **__: FOUND)
    monkeypatch.setattr(Airflow, "dag_exists", lambda *_: True)
    monkeypatch.setattr(Airflow, "trigger", trigger)
    done = invoke(RUN, SHIPPED, "--snapshot", "s3://data/m.json", "--json")
    assert done.exit_code == 0
    assert asked["dag_id"] == "register"
    assert asked["conf"] == {
        "run_id": RUN, "name": SHIPPED, "snapshot": "s3://data/m.json", "model": None,
    }  # fmt: skip
    assert '"manual__1"' in done.stdout
