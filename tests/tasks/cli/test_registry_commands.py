from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import typer
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from tasks.base.errors import UnavailableError, UserError
from tasks.base.refs import BuildRef
from tasks.base.settings import Settings
from tasks.cli import registry as commands
from tasks.clients import tracking
from tasks.promote import promote
from tasks.records import ledger, registry
from tasks.records.trials.leaderboard import Leaderboard
from tests.tasks.records.trials import finished

SHIPPED = "diabetes_progression"
RIDGE = {"estimator": "ridge", "alpha": 0.123456}
FOREST = {"estimator": "random_forest", "max_depth": 3}
BOARD = Leaderboard(
    "rmse",
    (
        finished(4, RIDGE, 55.4321, {"training_rmse": 53.0, "duration_s": 0.25}, "child"),
        finished(0, FOREST, 60.0, {"duration_s": 1.5}),
    ),
)


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    commands.register(app)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def name(servers: Settings) -> str:
    """A model with two promotions, whose pipeline file is gone."""
    name = f"cli_{uuid4().hex[:8]}"
    client = tracking.client()
    client.create_registered_model(name)
    run = client.create_run(tracking.experiment(name))
    for version, champion in ((1, None), (2, 1)):
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        build = BuildRef(
            name=name,
            run_id=f"{name}{version}",
            pipeline_uri="p",
            snapshot_uri="s",
            version=version,
            verdict="promote",
            promote=True,
            champion=champion,
            reason=f"reason {version}",
            addresses=("a",),
        )
        promote(build, "dag/run")
    return name


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.records.trials.leaderboard.newest", lambda _name: BOARD)


def test_history_shows_who_did_what_and_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.out, "width", 200)
    shown = invoke("history", name)
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert "promote moved" in lines[1]
    for part in ("1 → 2", "dag/run", "reason 2"):
        assert part in lines[1]
    assert "none → 1" in shown.stdout


def test_history_as_json_is_the_ledger(name: str) -> None:
    entries = json.loads(invoke("history", name, "--json").stdout)
    assert [entry["kind"] for entry in entries] == ["moved", "intent", "moved", "intent"]
    assert entries == [entry.model_dump(mode="json") for entry in ledger.history(name)]
    assert len(json.loads(invoke("history", name, "--json", "--limit", "1").stdout)) == 1


def test_rollback_moves_the_alias_and_says_that_the_endpoint_must_follow(name: str) -> None:
    result = invoke("rollback", name, "--reason", "it errs")
    assert result.exit_code == 0
    assert registry.aliases(name) == {"champion": 1}
    assert "version 1" in result.stdout
    assert f"deploy__{name} could not be started" in result.stderr  # Airflow does not run here
    newest = ledger.history(name)[0]
    assert (newest.kind, newest.to_version, newest.reason) == ("moved", 1, "it errs")
    assert newest.actor


def test_rollback_needs_a_reason(name: str) -> None:
    assert invoke("rollback", name).exit_code == 2
    assert registry.aliases(name)["champion"] == 2


@pytest.mark.parametrize("command", ["history", "rollback", "leaderboard"])
@pytest.mark.usefixtures("servers")
def test_a_wrong_name_is_answered_with_the_nearest(command: str) -> None:
    options = ["--reason", "r"] if command == "rollback" else []
    error = invoke(command, f"{SHIPPED}s", *options).exception
    assert isinstance(error, UserError)
    assert SHIPPED in error.fix


def test_the_leaderboard_names_the_fix_at_once_when_the_stack_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def newest(_name: str) -> Leaderboard:
        tried.append(MLFLOW_HTTP_REQUEST_MAX_RETRIES.get())
        raise MlflowException("Connection refused")

    monkeypatch.setattr("tasks.records.trials.leaderboard.newest", newest)
    error = invoke("leaderboard", SHIPPED).exception
    assert isinstance(error, UnavailableError)
    assert "up" in error.fix
    assert tried == [1], "MLflow's own seven tries take minutes"


@pytest.mark.usefixtures("board")
def test_the_leaderboard_as_table_json_and_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands.out, "width", 120)
    lines = invoke("leaderboard", SHIPPED).stdout.splitlines()
    assert lines[0].split() == [
        "rank",
        "trial",
        "estimator",
        "val_rmse",
        "training_rmse",
        "seconds",
        "parameters",
    ]
    assert lines[1].split() == ["1", "4", "ridge", "55.432", "53", "0.25", "alpha=0.1235"]
    limited = invoke("leaderboard", SHIPPED, "--limit", "1").stdout
    assert "random_forest" not in limited
    assert "1 more" in limited

    rows = json.loads(invoke("leaderboard", SHIPPED, "--json").stdout)
    assert rows[0]["alpha"] == 0.123456
    assert rows[1] == {
        "rank": 2,
        "trial": 0,
        "estimator": "random_forest",
        "val_rmse": 60.0,
        "training_rmse": None,
        "duration_s": 1.5,
        "run_id": None,
        "max_depth": 3,
    }

    file = tmp_path / "board.csv"
    assert invoke("leaderboard", SHIPPED, "--csv", str(file)).exit_code == 0
    with file.open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert [row["trial"] for row in written] == ["4", "0"]
    assert (written[0]["alpha"], written[0]["max_depth"]) == ("0.123456", "")


@pytest.mark.usefixtures("board")
def test_a_file_that_cannot_be_written_is_a_users_error(tmp_path: Path) -> None:
    error = invoke("leaderboard", SHIPPED, "--csv", str(tmp_path / "no" / "x.csv")).exception
    assert isinstance(error, UserError)
