"""A PostgreSQL and an S3 store that are not ours, by the override file of docs/production.md."""

from __future__ import annotations

import re
import secrets
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.base.settings import REPOSITORY
from tests.compose.conftest import PROBE, Project, copy_tree, docker, new_project, remove
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

OVERRIDE = re.search(
    r"```yaml\n(services:\n  postgres: \{profiles.*?)```",
    (REPOSITORY / "docs/production.md").read_text(),
    re.DOTALL,
)
USES = """
import mlflow, tempfile, pathlib
from tasks.clients import database, store, tracking
store.put_bytes(store.data_uri("test/external"), b"x")
client = tracking.client()
run = client.create_run(tracking.experiment("external"))
client.log_text(run.info.run_id, "hello", "note.txt")
with database.connect() as connection, connection.cursor() as cursor:
    cursor.execute("select count(*) from trial")
print("all of it worked")
"""


@pytest.fixture(scope="module")
def elsewhere(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, str]]:
    """A stack without servers of its own, and the name of the container that is its store."""
    assert OVERRIDE
    folder = copy_tree(tmp_path_factory.mktemp("elsewhere"))
    project = new_project(folder)
    names = (f"{project.name}-other-postgres", f"{project.name}-other-store")
    passwords = {name: secrets.token_hex(16) for name in ("admin", "s3")}
    given = {
        "postgres_superuser": passwords["admin"],
        **{f"s3_{user}_key": "external" for user in ("mlflow", "tasks")},
        **{f"s3_{user}": passwords["s3"] for user in ("mlflow", "tasks")},
    }
    (folder / "given").mkdir()
    for name, text in given.items():
        (folder / "given" / name).write_text(text + "\n")
    (folder / "compose.override.yaml").write_text(OVERRIDE[1])
    project = project.with_env(
        MLOPS_POSTGRES=f"{names[0]}:5432",
        MLOPS_POSTGRES_ADMIN="admin",
        MLOPS_S3_ENDPOINT=f"http://{names[1]}:9000",
    )
    try:
        project.compose("create", "mlflow")  # with it the network, where the stack finds them
        servers(names, passwords, f"{project.name}_default")
        yield project, names[1]
    finally:
        docker("rm", "-f", "-v", *names, check=False)
        remove(project)


def servers(names: tuple[str, str], passwords: dict[str, str], network: str) -> None:
    """Start PostgreSQL, with an admin who is no superuser, and an S3 server."""
    docker(
        "run", "-d", "--name", names[0], "--network", network,
        "-e", "POSTGRES_PASSWORD=superuser", "postgres:17",
    )  # fmt: skip
    rclone = Path(sysconfig.get_path("scripts")) / "rclone"
    docker(
        "run", "-d", "--name", names[1], "--network", network,
        "-v", f"{rclone}:/rclone:ro", PROBE, "sh", "-c",
        "mkdir -p /s/mlflow /s/data && exec /rclone serve s3 --addr :9000 --auth-key "
        f"external,{passwords['s3']} /s",
    )  # fmt: skip
    sql = f"CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD '{passwords['admin']}'"

    def made() -> bool:
        ready = "psql -h 127.0.0.1 -U postgres -c"
        line = f'PGPASSWORD=superuser {ready} "{sql}"'
        return "CREATE ROLE" in docker("exec", names[0], "sh", "-c", line, check=False)

    until(made, 60, "the other PostgreSQL is up")


def test_runs_artifacts_and_data_go_there(elsewhere: tuple[Project, str]) -> None:
    project, other = elsewhere
    project.compose("up", "-d", "--wait", "mlflow", "airflow-api-server", "airflow-scheduler")
    assert {"postgres", "minio", "buckets"}.isdisjoint(
        container["Config"]["Labels"]["com.docker.compose.service"]
        for container in project.containers().values()
    )
    assert "all of it worked" in project.inside("airflow-scheduler", "python3", "-c", USES)
    stored: Any = docker("exec", other, "find", "/s", "-type", "f")
    assert "/s/data/test/external" in stored
    assert "note.txt" in stored
