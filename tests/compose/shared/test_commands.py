"""The command line of the compose stack: `docker compose run --rm cli COMMAND`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tasks.base.settings import REPOSITORY
from tests.compose.conftest import Project

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


def test_status(project: Project) -> None:
    done = project.cli("status", "--json")
    report = json.loads(done.stdout)
    assert set(report["services"]) == {"postgres", "store", "mlflow", "airflow", "gateway"}
    for service in report["services"].values():
        assert service["state"] == "running"
        assert service["pid"] is None
    urls = {name: service["url"] for name, service in report["services"].items()}
    assert urls["gateway"] == project.url()
    assert urls["mlflow"] == f"{project.url()}/mlflow"
    assert urls["airflow"] == f"{project.url()}/airflow"
    assert urls["store"] == project.url("STORE")
    assert urls["postgres"].endswith(f"127.0.0.1:{project.env['MLOPS_POSTGRES_PORT']}")


def test_login_says_where_and_how(project: Project) -> None:
    output = project.cli("login").stdout
    assert f"{project.url()}/airflow" in output
    assert project.exports()["MLOPS_AIRFLOW_PASSWORD"] in output


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (("up",), "docker compose up -d --wait"),
        (("down",), "docker compose down"),
        (("down", "--wipe", "--yes"), "docker compose down -v --remove-orphans"),
        (("logs", "mlflow", "-f"), "docker compose logs -f mlflow"),
    ],
)
def test_what_docker_compose_does_is_said(
    project: Project, words: tuple[str, ...], way_out: str
) -> None:
    done = project.cli(*words, check=False)
    assert done.returncode == 2
    assert way_out in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_finds_nothing(project: Project) -> None:
    checks = json.loads(project.cli("doctor", "--json").stdout)
    assert {"memory", "disk", "postgres", "airflow", "MLflow's login"} <= {
        c["name"] for c in checks
    }
    assert all(check["ok"] for check in checks)


NOTEBOOK = """
from tasks.clients import database, store, tracking
from tasks.clients.orchestrator import Airflow
with database.connect() as connection, connection.cursor() as cursor:
    cursor.execute("select count(*) from ledger")
print(tracking.client().search_experiments()[0].name, Airflow().get("/pools/training")["name"])
store.put_bytes(store.data_uri("test/notebook"), b"x")
print(store.get_bytes(store.data_uri("test/notebook")).decode())
"""


def test_a_notebook_on_the_host_works_with_env(project: Project) -> None:
    exports = project.exports() | {"PYTHONPATH": str(REPOSITORY), "MLOPS_HOME": str(project.folder)}
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLOPS_", "MLFLOW_", "AWS_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        env={**clean, **exports},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["training", "x"]


def test_a_new_pipeline_file_appears_without_a_rebuild(project: Project) -> None:
    text = (project.folder / "pipelines/diabetes_progression.yaml").read_text()
    (project.folder / "pipelines/another.yaml").write_text(text)
    try:
        assert "another" in project.cli("pipelines").stdout
        checked = project.cli("check", "pipelines/another.yaml")
        assert "ok" in checked.stdout
    finally:
        (project.folder / "pipelines/another.yaml").unlink()


def test_a_mistake_is_named_with_exit_code_2(project: Project) -> None:
    done = project.cli("run", "diabetes_progresion", check=False)
    assert done.returncode == 2
    assert "diabetes_progression" in done.stderr
