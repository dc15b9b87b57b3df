"""Passwords are where they are used, and nowhere else."""

from __future__ import annotations

import subprocess

import pytest

from tasks.base.settings import REPOSITORY
from tests.compose.conftest import IMAGES, Project, docker, sign_in

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

VOLUMES = {
    "postgres": "/run/secrets/postgres",
    "minio": "/run/secrets/minio",
    "mlflow": "/run/secrets/mlflow",
    "airflow-scheduler": "/run/secrets/airflow",
}


@pytest.fixture(scope="module")
def secrets(project: Project) -> dict[str, str]:
    """Every secret, after a command that prints some of them has run."""
    assert "admin / " in project.cli("login").stdout
    known = project.secrets()
    assert len(known) >= 15
    assert len(set(known.values())) == len(known)
    return known


def named(secrets: dict[str, str], text: str) -> list[str]:
    """Names of the secrets that stand in a text."""
    return [name for name, value in secrets.items() if value in text]


def test_not_in_what_the_engine_tells(project: Project, secrets: dict[str, str]) -> None:
    ids = [container["Id"] for container in project.containers().values()]
    assert named(secrets, docker("inspect", *ids)) == []
    images = docker("images", "-q", "--filter", f"reference={IMAGES}/*").split()
    assert len(images) >= 4
    assert named(secrets, docker("inspect", *images)) == []
    assert named(secrets, docker("history", "--no-trunc", *images[:1])) == []
    assert named(secrets, project.compose("config").stdout) == []


def test_not_in_logs(project: Project, secrets: dict[str, str]) -> None:
    done = project.compose("logs", "--no-color")
    assert "airflow-scheduler" in done.stdout
    assert named(secrets, done.stdout) == []
    for name, value in secrets.items():
        search = subprocess.run(
            ["docker", "compose", "exec", "-T", "airflow-scheduler", "grep", "-rlFf", "-",
             "/var/log/airflow"],
            cwd=project.folder, env={"PATH": "/usr/bin:/bin", **project.env}, input=value,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (search.returncode, search.stdout) == (1, ""), name


def test_not_in_process_lists(project: Project, secrets: dict[str, str]) -> None:
    running = [
        name for name, container in project.containers().items() if container["State"]["Running"]
    ]
    assert len(running) >= 9
    for name in running:
        assert named(secrets, docker("top", name, "-eo", "pid,args")) == [], name


def test_not_in_the_repository(secrets: dict[str, str]) -> None:
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    text = "".join(
        (REPOSITORY / name).read_text(errors="ignore")
        for name in files
        if name and (REPOSITORY / name).is_file()
    )
    assert named(secrets, text) == []


@pytest.mark.parametrize("service", VOLUMES)
def test_each_reader_has_its_own_only(
    project: Project, secrets: dict[str, str], service: str
) -> None:
    folders = project.inside(service, "ls", "/run/secrets").split()
    assert folders == [VOLUMES[service].rpartition("/")[2]]
    text = project.inside(service, "sh", "-c", f"cat {VOLUMES[service]}/*")
    expected = {
        "postgres": {"postgres_superuser"},
        "minio": {"minio_root"},
        "mlflow": {"postgres_mlflow", "s3_mlflow", "mlflow_admin", "mlflow_tasks", "mlflow_flask"},
        "airflow-scheduler": {
            "postgres_airflow", "postgres_mlops", "s3_tasks", "mlflow_tasks", "redis",
            "airflow_fernet_key", "airflow_jwt", "airflow_api",
        },
    }[service]  # fmt: skip
    assert set(named(secrets, text)) == expected


def test_only_their_reader_may_open_the_files(project: Project) -> None:
    listed = project.inside("airflow-scheduler", "stat", "-c", "%a %u", "/run/secrets/airflow")
    assert listed.split() == ["500", "50000"]
    modes = project.inside(
        "airflow-scheduler", "sh", "-c", "stat -c '%a %u' /run/secrets/airflow/*"
    )
    assert set(modes.splitlines()) == {"400 50000"}


def test_a_second_up_keeps_them_and_a_lost_one_is_made_anew(project: Project) -> None:
    before = project.secrets()
    docker(
        "run", "--rm", "-v", f"{project.name}_secrets:/secrets", "python:3.11-slim",
        "rm", "/secrets/airflow_admin",
    )  # fmt: skip
    project.up()
    after = project.secrets()
    assert {name for name in before if before[name] != after[name]} == {"airflow_admin"}
    assert after["airflow_admin"] in project.cli("login").stdout
    assert sign_in(project).get("/api/v2/pools/training").json()["name"] == "training"
