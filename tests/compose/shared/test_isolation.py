"""Who reaches whom: from the models' network, from a task, from the host."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import pytest

from tests.compose.conftest import PROBE, Project, docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

# Tries each host:port and prints those that accept a connection.
KNOCK = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def open_(place):
    host, port = place
    try:
        socket.create_connection((host, port), 3).close()
    except OSError:
        return None
    return place
with ThreadPoolExecutor(32) as pool:
    print(json.dumps([one for one in pool.map(open_, json.load(sys.stdin)) if one]))
"""
SERVED = {
    "postgres": 5432, "minio": 9000, "mlflow": 5000, "airflow-api-server": 8080,
    "gateway": 8000, "front": 8000, "docker-filter": 2375, "airflow-scheduler": 8974,
}  # fmt: skip
EVERY_PORT = (80, 443, 2019, 2375, 5000, 5432, 6379, 8000, 8001, 8080, 8793, 8974, 9000)


def addresses(project: Project) -> dict[str, dict[str, str]]:
    """Addresses of each running service, but the models, by network."""
    running = {
        container["Config"]["Labels"]["com.docker.compose.service"]: container
        for container in project.containers().values()
        if container["State"]["Running"]
    }
    return {
        service: {name: network["IPAddress"] for name, network in networks(container).items()}
        for service, container in running.items()
        if not service.startswith("model-")
    }


def networks(container: dict[str, Any]) -> dict[str, Any]:
    return dict(container["NetworkSettings"]["Networks"])


def knock(project: Project, network: str, places: list[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the places that answer whoever is on a network of the project."""
    done = subprocess.run(
        ["docker", "run", "--rm", "-i", "--network", network, "--cap-drop", "ALL",
         "--user", "10001:10001", PROBE, "python3", "-c", KNOCK],
        input=json.dumps(places), capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return {(host, port) for host, port in json.loads(done.stdout)}


def test_the_models_network_leads_nowhere(project: Project) -> None:
    by_service = addresses(project)
    hosts = set(SERVED) | {ip for known in by_service.values() for ip in known.values()}
    gateway = json.loads(docker("network", "inspect", f"{project.name}-models"))[0]
    hosts |= {subnet["Gateway"] for subnet in gateway["IPAM"]["Config"] if "Gateway" in subnet}
    published = [int(value) for name, value in project.env.items() if name.endswith("_PORT")]
    places = [(host, port) for host in sorted(hosts) for port in (*EVERY_PORT, *published)]
    places += [("1.1.1.1", 443), ("8.8.8.8", 53)]
    reached = knock(project, f"{project.name}-models", places)
    # The host's own ports are the host's affair; no service of ours is among them.
    bridge = {subnet["Gateway"] for subnet in gateway["IPAM"]["Config"] if "Gateway" in subnet}
    ours = {*EVERY_PORT, *published} - {80, 443}
    assert {place for place in reached if place[0] not in bridge} == set()
    assert {port for host, port in reached if host in bridge} & ours == set()


def test_the_same_knocking_finds_the_servers_where_they_are(project: Project) -> None:
    places = list(SERVED.items())
    reached = {host for host, _ in knock(project, f"{project.name}_default", places)}
    assert reached == {"postgres", "minio", "mlflow", "airflow-api-server", "gateway", "front"}
    assert knock(project, f"{project.name}_docker", places) == {("docker-filter", 2375)}


def test_who_is_on_which_network(project: Project) -> None:
    by_service = {service: set(names) for service, names in addresses(project).items()}
    models, engine = f"{project.name}-models", f"{project.name}_docker"
    assert {name for name, on in by_service.items() if models in on} == {
        "gateway",
        "airflow-scheduler",
    }
    assert {name for name, on in by_service.items() if engine in on} == {
        "docker-filter",
        "airflow-scheduler",
    }
    for network in (models, engine):
        assert json.loads(docker("network", "inspect", network))[0]["Internal"]


TASK = """
import json, urllib.request
from tasks.clients import database, store, tracking
from tasks.serving.targets.engine import client
from tasks.base.settings import settings
opened = urllib.request.urlopen(settings().gateway_internal + "/health").status
store.put_bytes(store.data_uri("test/task"), b"x")
with database.connect() as connection, connection.cursor() as cursor:
    cursor.execute("select current_user")
    role = cursor.fetchone()[0]
print(json.dumps({
    "mlflow": settings().tracking_uri,
    "experiments": len(tracking.client().search_experiments()),
    "gateway": opened,
    "store": store.get_bytes(store.data_uri("test/task")).decode(),
    "role": role,
    "engine": client().ping(),
    "registered": len(tracking.client().search_registered_models()),
}))
"""


def test_the_names_work_as_a_task_sees_them(project: Project) -> None:
    seen = json.loads(project.inside("airflow-scheduler", "python3", "-c", TASK).splitlines()[-1])
    assert seen.pop("experiments") >= 1
    seen.pop("registered")
    assert seen == {
        "mlflow": "http://mlflow:5000",
        "gateway": 200,
        "store": "x",
        "role": "mlops",
        "engine": True,
    }


@pytest.mark.parametrize("service", ["MLFLOW", "GATEWAY"])
def test_mlflow_refuses_foreign_hosts_and_origins(project: Project, service: str) -> None:
    base = project.url(service) + ("/mlflow" if service == "GATEWAY" else "")
    create = f"{base}/ajax-api/2.0/mlflow/experiments/create"
    assert httpx.get(f"{base}/", headers={"Host": "evil.example.com"}).status_code == 403
    foreign = {"Origin": "http://evil.example.com"}
    assert httpx.post(create, json={"name": "evil"}, headers=foreign).status_code == 403
    own = {"Origin": project.url(service)}
    assert httpx.post(create, json={"name": f"from {service}"}, headers=own).status_code == 200


def test_airflow_asks_who_is_there(project: Project) -> None:
    for base in (f"{project.url()}/airflow", f"{project.url('AIRFLOW')}/airflow"):
        assert httpx.get(f"{base}/api/v2/dags").status_code == 401
        wrong = {"username": "admin", "password": "admin"}
        assert httpx.post(f"{base}/auth/token", json=wrong).status_code == 401


def test_the_engine_is_reached_through_the_filter_only(project: Project) -> None:
    script = (
        "import docker; c = docker.DockerClient('tcp://docker-filter:2375', version='1.41')\n"
        "try: c.containers.run('python:3.11-slim', 'true', privileged=True)\n"
        "except docker.errors.APIError as e: print(e.status_code)"
    )
    assert project.inside("airflow-scheduler", "python3", "-c", script).strip() == "403"
