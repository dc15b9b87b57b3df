"""The main job on the compose stack, from the form's REST call to a container that answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.compose.conftest import Project
from tests.compose.shared.serving import models, served
from tests.tasks.serving.clients import Clients
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1500)]

NAME = "diabetes_progression"
ROW = {"age": 59, "sex": 2, "bmi": 32.1, "bp": 101, "s1": 157, "s2": 93.2, "s3": 38, "s4": 4,
       "s5": 4.8598, "s6": 87}  # fmt: skip
BODY = {"dataframe_records": [ROW]}
EACH = 20
"""Clients that keep their connection, and as many that make a new one for each request."""


def train(airflow: httpx.Client, name: str = NAME, **conf: Any) -> str:
    """Trigger the DAG as the form does and wait for its end; returns the run's id."""
    dag = f"/api/v2/dags/train__{name}"

    def read(path: str) -> dict[str, Any]:
        answer = airflow.get(path)
        return dict(answer.json()) if answer.is_success else {}

    until(lambda: read(dag), 120, "Airflow has read the DAG")
    answer = airflow.post(f"{dag}/dagRuns", json={"logical_date": None, "conf": conf})
    assert answer.is_success, answer.text
    run = str(answer.json()["dag_run_id"])

    def ended() -> str:
        state = str(read(f"{dag}/dagRuns/{run}").get("state"))
        return state if state in ("success", "failed") else ""

    state = until(ended, 900, f"{run} ends")
    assert state == "success", airflow.get(f"{dag}/dagRuns/{run}/taskInstances").text
    return run


@pytest.fixture(scope="module")
def first(project: Project, airflow: httpx.Client) -> int:
    """Version 1, trained, promoted and served."""
    train(airflow, trials=6, slots=2)
    until(lambda: served(project, NAME) == 1, 180, "version 1 is served")
    return 1


def test_a_container_answers(project: Project, first: int) -> None:
    answer = httpx.post(f"{project.url()}/models/{NAME}/invocations", json=BODY)
    assert 25 < answer.json()["predictions"][0] < 346  # the range of the target
    assert models(project, NAME) == [f"{project.name}-model-{NAME}-v1-1"]
    done = project.cli("status", "--json")
    assert f'"version": {first}' in done.stdout
    listed = project.compose("ps", "--format", "{{.Service}}").stdout.split()
    assert f"model-{NAME}" in listed


def test_links_lead_to_the_published_pages(
    project: Project, airflow: httpx.Client, first: int
) -> None:
    runs = airflow.get(f"/api/v2/dags/train__{NAME}/dagRuns").json()["dag_runs"]
    run = runs[0]["dag_run_id"]
    path = f"/api/v2/dags/train__{NAME}/dagRuns/{run}/taskInstances/promote/links"
    links = airflow.get(path).json()["extra_links"]
    assert links["MLflow run"].startswith(f"{project.url()}/mlflow/#/runs/")
    assert links["Endpoint"] == f"{project.url()}/models/{NAME}/version"


def test_a_swap_under_load_loses_no_request_and_goes_back(
    project: Project, airflow: httpx.Client, first: int
) -> None:
    url = f"{project.url()}/models/{NAME}/invocations"
    with Clients(url, BODY, each=EACH, pause_s=0.5, timeout_s=60) as load:
        train(airflow, trials=4, slots=2, seed=7, gate_mode="dry_run", force=True)
        until(lambda: served(project, NAME) == 2, 180, "version 2 is served")
        back = project.cli("rollback", NAME, "--reason", "the test wants the first one back")
        assert "version 1" in back.stdout
        until(lambda: served(project, NAME) == first, 180, "version 1 is served again")
    assert set(load.got) == {(200, "1"), (200, "2")}, load.got
    until(
        lambda: models(project, NAME) == [f"{project.name}-model-{NAME}-v1-1"],
        120,
        "version 2 has ended",
    )


@pytest.mark.parametrize("options", [(), ("--remove-orphans",)])
def test_down_and_up_serve_the_same_version_by_themselves(
    project: Project, first: int, options: tuple[str, ...]
) -> None:
    project.compose("down", *options)
    assert len(models(project, NAME)) == (0 if options else 1)
    project.up()
    until(lambda: served(project, NAME) == first, 180, "version 1 is served again")


def test_the_command_line_sees_it_all(project: Project, first: int) -> None:
    output = project.cli("demo").stdout
    for part in ("leaderboard", "predictions", "/airflow", "docker compose down"):
        assert part in output
    assert "rollback" in project.cli("history", NAME).stdout
    assert "rmse" in project.cli("leaderboard", NAME).stdout
    rows = project.folder / "rows.json"
    rows.write_text("[" + str(ROW).replace("'", '"') + "]")
    asked = project.cli("predict", NAME, "rows.json")
    assert f"version {served(project, NAME)}" in asked.stdout
