"""The whole stack with Airflow: healthy, private, and sound after a crash."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.clients.orchestrator import POOL
from tasks.stack.embedded import airflow, leftovers, lifecycle, ports, services
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import AIRFLOW, CORE, SERVICES, Stack
from tasks.stack.embedded.supervisor import Supervisor
from tasks.stack.service import running as all_run
from tasks.stack.status import status
from tests.chain.conftest import Chain, command
from tests.waiting import of_living, pid_once, until

pytestmark = pytest.mark.stack


@pytest.fixture
def running(chain: Chain) -> Stack:
    """Home, ports and secrets of the stack that all tests of this folder share."""
    home = Home(chain.home)
    return Stack(home, ports.load(home))


def pid_of(running: Stack, name: str) -> int:
    return Supervisor(running.home).programs()[name].pid or 0


def workers(running: Stack) -> list[psutil.Process]:
    try:
        return psutil.Process(pid_of(running, "airflow-scheduler")).children()
    except psutil.NoSuchProcess:
        return []


def request(
    running: Stack, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", running.ports.airflow, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def token(running: Stack) -> str:
    login = {"username": services.ADMIN, "password": running.secrets.airflow_admin}
    return str(request(running, "POST", "/airflow/auth/token", login)[1]["access_token"])


def test_everything_is_healthy(running: Stack) -> None:
    services = status()
    assert {name: service.state for name, service in services.items()} == dict.fromkeys(
        SERVICES, "running"
    )
    assert all_run(services)
    assert set(Supervisor(running.home).programs()) == set(CORE)


def test_up_and_doctor_find_it_running(running: Stack) -> None:
    shown = command("up")
    assert shown.exit_code == 0
    assert "already running" in shown.stdout
    assert command("doctor").exit_code == 0


def test_a_second_start_changes_nothing(running: Stack) -> None:
    before = {name: pid_of(running, name) for name in CORE}
    assert not lifecycle.start()
    assert {name: pid_of(running, name) for name in CORE} == before


def test_everything_listens_on_this_machine_only(running: Stack) -> None:
    addresses = {
        connection.laddr.ip
        for connections in of_living(
            lambda process: process.net_connections("tcp"), leftovers.find(running.home)
        )
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_no_secret_is_on_a_command_line(running: Stack) -> None:
    words = of_living(psutil.Process.cmdline, leftovers.find(running.home))
    lines = [" ".join(each) for each in words]
    assert len(lines) > len(CORE)
    secrets = vars(running.secrets).values()
    assert not [secret for secret in secrets if any(secret in line for line in lines)]


def test_airflow_lets_in_who_has_the_password(running: Stack) -> None:
    wrong = {"username": services.ADMIN, "password": "admin"}
    assert request(running, "POST", "/airflow/auth/token", wrong)[0] == 401
    assert request(running, "GET", "/api/v2/dags")[0] == 401
    assert request(running, "GET", "/api/v2/dags", token=token(running))[0] == 200
    file = running.home.airflow / "passwords.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_pool_has_a_slot_a_core_and_a_users_change_stays(running: Stack) -> None:
    path = f"/api/v2/pools/{POOL}"
    key = token(running)
    assert request(running, "GET", path, token=key)[1]["slots"] == airflow.cores()
    change = {"name": POOL, "slots": 1, "include_deferred": False}
    assert request(running, "PATCH", f"{path}?update_mask=slots", change, key)[0] == 200
    lifecycle.start()
    assert request(running, "GET", path, token=key)[1]["slots"] == 1
    back = change | {"slots": airflow.cores()}
    assert request(running, "PATCH", f"{path}?update_mask=slots", back, key)[0] == 200


def test_no_plugin_fails_to_load(running: Stack) -> None:
    errors = request(running, "GET", "/api/v2/plugins/importErrors", token=token(running))[1]
    assert errors["import_errors"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="polls there, within a second")
def test_the_workers_die_with_the_scheduler(running: Stack) -> None:
    until(lambda: len(workers(running)) > 1, 60, "the workers run")
    scheduler = pid_once(lambda: pid_of(running, "airflow-scheduler"), "the scheduler")
    old = workers(running)
    os.kill(scheduler, signal.SIGKILL)
    until(lambda: not any(worker.is_running() for worker in old), 5, "the workers are gone")
    until(lambda: pid_of(running, "airflow-scheduler") not in (0, scheduler), 60, "it is back")
    until(lambda: len(workers(running)) > 1, 180, "it has workers again")


def test_a_dead_worker_ends_the_scheduler_at_once(running: Stack) -> None:
    until(lambda: len(workers(running)) > 1, 60, "the workers run")
    scheduler = pid_of(running, "airflow-scheduler")
    workers(running)[0].kill()
    until(lambda: pid_of(running, "airflow-scheduler") not in (0, scheduler), 60, "a new one runs")
    until(lambda: len(workers(running)) > 1, 180, "it has workers again")
    assert "died; exiting at once" in (running.home.logs / "airflow-scheduler.log").read_text()


@pytest.mark.parametrize(
    "name", ["mlflow", "airflow-api-server", "airflow-dag-processor", "airflow-triggerer"]
)
def test_nothing_of_a_killed_program_stays_in_the_way_of_the_next(
    running: Stack, name: str
) -> None:
    """As MLflow's own server did, and held the port for which the next one waited for ever."""
    until(lambda: all_run(status()), 180, "it is healthy")
    killed = psutil.Process(pid_once(lambda: pid_of(running, name), name))
    family = [killed, *killed.children(recursive=True)]
    killed.kill()
    until(lambda: not of_living(psutil.Process.cmdline, family), 20, "all of it is gone")
    until(lambda: pid_of(running, name) not in (0, killed.pid), 60, "the next one runs")
    until(lambda: all_run(status()), 180, "it is healthy again")


def test_every_process_has_the_same_keys_and_its_dags(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    programs = airflow.programs(Stack(home, ports.Ports()))
    assert tuple(programs) == AIRFLOW
    environments = [program.env for program in programs.values()]
    assert all(env == environments[0] for env in environments)
    env = environments[0]
    for name in ("CORE__FERNET_KEY", "API_AUTH__JWT_SECRET", "API__SECRET_KEY"):
        assert len(env[f"AIRFLOW__{name}"]) >= 32
    assert Path(env["AIRFLOW__CORE__DAGS_FOLDER"]).is_dir()
    assert Path(env["AIRFLOW__CORE__PLUGINS_FOLDER"]).is_dir()
