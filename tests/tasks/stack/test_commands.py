"""The stack's commands, as a user and a script use them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from tasks.base.errors import UnavailableError, UserError
from tasks.base.settings import REPOSITORY, settings
from tasks.cli import application
from tasks.stack.embedded import lifecycle, ports
from tasks.stack.embedded.home import Home
from tests.conftest import state_folder

pytestmark = pytest.mark.timeout(300)

COMMAND = (sys.executable, "-P", "-m", "tasks.cli")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A stack without MLflow and Airflow."""
    with state_folder(tmp_path_factory.mktemp("commands")) as home:
        lifecycle.start(only=("postgres", "store", "gateway"))
        yield home


def run(*args: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(application(), args, input=typed)


def environment(home: Home) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "MLOPS_HOME": str(home.root)}


def test_status_as_json(running: Home) -> None:
    shown = run("status", "--json")
    assert shown.exit_code == 3  # Airflow and MLflow do not run
    report = json.loads(shown.stdout)
    assert report["endpoints"] == {}
    services = report["services"]
    assert list(services) == ["postgres", "store", "mlflow", "airflow", "gateway"]
    assert all(set(service) == {"url", "state", "pid"} for service in services.values())
    assert services["store"]["state"] == "running"
    assert services["store"]["url"] == f"http://127.0.0.1:{ports.load(running).store}"
    assert isinstance(services["store"]["pid"], int)
    assert services["airflow"]["state"] == "stopped"
    assert not [secret for secret in vars(running.secrets).values() if secret in shown.stdout]


def test_status_for_people(running: Home) -> None:
    shown = run("status")
    assert "gateway" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_env_reaches_a_users_shell(running: Home) -> None:
    script = f'eval "$({shlex.join([*COMMAND, "env"])})"; env'
    shown = subprocess.run(
        ["sh", "-c", script], env=environment(running), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    where = ports.load(running)
    assert f"MLFLOW_TRACKING_URI=http://127.0.0.1:{where.mlflow}" in shown
    assert f"MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:{where.store}" in shown
    assert f"AWS_ACCESS_KEY_ID={running.secrets.s3_key}" in shown
    assert f"MLOPS_DATABASE={settings().database}" in shown


def test_env_without_a_stack_says_how_to_start_one(home: Home) -> None:
    assert isinstance(run("env").exception, UnavailableError)


def test_a_log_is_shown(running: Home) -> None:
    shown = run("logs", "postgres", "--lines", "500")
    assert "ready to accept connections" in shown.stdout
    assert len(run("logs", "postgres", "-n", "2").stdout.splitlines()) == 2


@pytest.mark.parametrize(("wrong", "meant"), [("postgre", "postgres"), ("gatway", "gateway")])
def test_a_wrong_name_is_answered_with_the_right_one(running: Home, wrong: str, meant: str) -> None:
    error = run("logs", wrong).exception
    assert isinstance(error, UserError)
    assert f"Did you mean '{meant}'?" in error.fix


@pytest.mark.timeout(30)
def test_a_log_is_followed_over_a_rotation(running: Home) -> None:
    log = running.logs / "model-test.log"
    log.write_text("before\n")
    process = subprocess.Popen(
        [*COMMAND, "logs", "model-test", "-f"],
        env=environment(running),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "before\n"
        with log.open("a") as file:
            file.write("written\n")
        assert process.stdout.readline() == "written\n"
        log.rename(log.with_suffix(".log.1"))
        log.write_text("rotated\n")
        assert process.stdout.readline() == "rotated\n"
    finally:
        process.kill()
        process.communicate()


def test_doctor_finds_what_does_not_run(running: Home) -> None:
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert checks["store"]["ok"]
    assert checks["python"]["ok"]
    assert not checks["mlflow"]["ok"]
    assert "./mlops logs mlflow" in checks["mlflow"]["fix"]
    assert "→" in run("doctor").stdout


def test_doctor_before_the_first_start(home: Home) -> None:
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert checks["stack"]["finding"].startswith("not running")
    assert checks["port of mlflow"]["finding"] == str(ports.load(home).mlflow)


def test_wipe_asks_first(home: Home) -> None:
    shown = run("down", "--wipe", typed="n\n")
    assert shown.exit_code == 1
    assert str(home.root) in shown.stdout
    assert home.root.exists()
    assert run("down", "--wipe", typed="y\n").exit_code == 0
    assert not home.root.exists()
    assert run("down").exit_code == 0


def test_errors_have_an_exit_code_and_a_way_out(home: Home) -> None:
    lifecycle.down(wipe=True)
    home.root.write_text("not a folder")
    shown = subprocess.run(
        [*COMMAND, "up"], env=environment(home), capture_output=True, text=True, check=False
    )
    home.root.unlink()
    assert shown.returncode == UserError.exit_code
    assert "cannot be written" in " ".join(shown.stderr.split())
    assert "MLOPS_HOME" in shown.stderr
    assert "Traceback" not in shown.stderr
