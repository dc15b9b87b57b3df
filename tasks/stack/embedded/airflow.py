"""Airflow's programs and settings, without importing Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from tasks.base.errors import MlopsError
from tasks.base.process import cores
from tasks.base.settings import REPOSITORY, settings
from tasks.clients.orchestrator import Airflow
from tasks.stack.embedded.home import write_private
from tasks.stack.embedded.logs import tail
from tasks.stack.embedded.program import Program, child_command
from tasks.stack.embedded.services import ADMIN, Stack, database_url

COMMON = Path(__file__).parents[1] / "airflow.env"
"""The settings that are the same on both stacks."""


def environment(stack: Stack) -> dict[str, str]:
    """The variables of Airflow's processes, the same for all, and of the tasks that they run."""
    url, logs = stack.url("airflow"), stack.home.logs / "airflow"
    common = {name: value or "" for name, value in dotenv_values(COMMON).items()}
    return {
        **common,
        **stack.variables(),
        "MLOPS_HOME": str(stack.home.root),
        "MLOPS_PIPELINES": str(settings().pipelines.absolute()),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "plugins")]),
        "PGPASSFILE": str(stack.home.pgpass("airflow")),
        "AIRFLOW_HOME": str(stack.home.airflow),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url(stack, "airflow"),
        "AIRFLOW__CORE__FERNET_KEY": stack.secrets.fernet_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": stack.secrets.jwt_secret,
        "AIRFLOW__API__SECRET_KEY": stack.secrets.api_secret_key,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(stack.ports.airflow),
        "AIRFLOW__API__BASE_URL": f"{stack.url('gateway')}/airflow",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_password_file(stack)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        # One process each, from the start; two more than cores, for tasks beside a search.
        "AIRFLOW__CORE__PARALLELISM": str(min(max(cores(), 2) + 2, 32)),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(logs),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(logs / "dag_processor"),
    }


def programs(stack: Stack) -> dict[str, Program]:
    """Airflow's programs by name."""
    env = environment(stack)

    def program(name: str, *options: str, stop_wait_s: int = 8) -> Program:
        command = (sys.executable, "-P", "-m", "airflow", name, *options)
        return Program(f"airflow-{name}", command, env, stack.home.root, stop_wait_s=stop_wait_s)

    all_programs = (
        program("api-server"),
        program("scheduler", "--skip-serve-logs", stop_wait_s=4),
        program("dag-processor"),
        program("triggerer", "--skip-serve-logs"),
    )
    return {program.name: program for program in all_programs}


def write_password(stack: Stack) -> None:
    """Write the admin's password to the file in which Airflow would put a generated one."""
    write_private(_password_file(stack), json.dumps({ADMIN: stack.secrets.airflow_admin}))


def migration(stack: Stack) -> subprocess.Popen[bytes] | None:
    """Start the migration of Airflow's database; `None` if this version has already migrated it."""
    if _marker(stack).exists():
        return None
    command = (sys.executable, "-P", "-m", "airflow", "db", "migrate")
    program = Program("airflow-migrate", command, environment(stack), stack.home.root)
    specification = stack.home.run / "airflow-migrate.json"
    write_private(specification, program.specification(stack.home))
    with (stack.home.logs / "airflow-migrate.log").open("wb") as log:
        return subprocess.Popen(
            child_command(specification),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish_migration(stack: Stack, process: subprocess.Popen[bytes] | None) -> None:
    """Wait for the migration and record that it is done."""
    if process is None:
        return
    if process.wait():
        log = stack.home.logs / "airflow-migrate.log"
        raise MlopsError(
            "The migration of Airflow's database failed.", why=tail(log), fix=f"See {log}."
        )
    _marker(stack).touch()


def create_pool(stack: Stack) -> None:
    """Create the pool of the search slots, one slot per core; an existing pool stays as it is."""
    where = settings().model_copy(
        update={
            "airflow_url": stack.url("airflow"),
            "airflow_user": ADMIN,
            "airflow_password": SecretStr(stack.secrets.airflow_admin),
        }
    )
    Airflow(where).create_pool(cores())


def _marker(stack: Stack) -> Path:
    """Next to the data, so that both are deleted together."""
    return stack.home.postgres / f"airflow-{version('apache-airflow-core')}"


def _password_file(stack: Stack) -> Path:
    return stack.home.airflow / "passwords.json"
