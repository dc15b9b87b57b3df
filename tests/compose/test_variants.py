"""What settings switch on: HTTPS under a name, MLflow's login, workers of their own."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.chain.searches import assert_published_once, rows
from tests.compose import steady
from tests.compose.conftest import Project, docker, new_project, remove
from tests.compose.steady import reached
from tests.waiting import pid_once, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2400)]

DOMAIN = "models.example.com"
TRIALS = 20
# What a stack in use has before its login is switched on: the experiment of the run below.
BEFORE = f"""
from mlflow import MlflowClient
MlflowClient("http://127.0.0.1:5000").create_experiment("{steady.NAME}")
"""


@pytest.fixture(scope="module")
def grown(tree: Any) -> Iterator[Project]:
    """A stack of its own with all three, and two workers."""
    made = new_project(tree).with_env(
        MLOPS_DOMAIN=DOMAIN,
        MLOPS_TLS="internal",
        MLOPS_MLFLOW_LOGIN="on",
        COMPOSE_PROFILES="workers",
    )
    try:
        before = made.with_env(MLOPS_MLFLOW_LOGIN="off")
        before.up("mlflow")
        before.inside("mlflow", "python3", "-c", BEFORE)
        made.up("--scale", "airflow-worker=2")
        yield made
    finally:
        remove(made)


@pytest.fixture(scope="module")
def secure(grown: Project) -> httpx.Client:
    """A client that trusts the gateway's authority and finds the name on this machine."""
    path = "/data/caddy/pki/authorities/local/root.crt"
    root = docker(
        "run", "--rm", "-v", f"{grown.name}_caddy:/data:ro", "python:3.11-slim", "cat", path
    )
    context = ssl.create_default_context(cadata=root)
    port = int(grown.env["MLOPS_GATEWAY_PORT"])
    return httpx.Client(transport=_Here(context, port), base_url=f"https://{DOMAIN}:{port}")


class _Here(httpx.HTTPTransport):
    """Connects to 127.0.0.1 for the stack's name, and checks the certificate of the name."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        super().__init__(verify=context)
        self.port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


def test_pages_are_served_by_https_with_the_names_certificate(secure: httpx.Client) -> None:
    assert "MLOps" in secure.get("/").text
    assert secure.get("/airflow/api/v2/monitor/health").json()["scheduler"]["status"] == "healthy"


def test_plain_http_is_led_to_https(grown: Project) -> None:
    headers = {"Host": f"{DOMAIN}:{grown.env['MLOPS_GATEWAY_PORT']}"}
    answer = httpx.get(f"{grown.url()}/airflow/", headers=headers)
    assert answer.is_redirect
    assert answer.headers["location"].startswith(f"https://{DOMAIN}")


def test_another_name_has_no_certificate(grown: Project) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://localhost:{grown.env['MLOPS_GATEWAY_PORT']}/", verify=False)


def test_mlflow_asks_for_a_login(grown: Project, secure: httpx.Client) -> None:
    exports = grown.exports()
    login = (exports["MLFLOW_TRACKING_USERNAME"], exports["MLFLOW_TRACKING_PASSWORD"])
    listing = "/api/2.0/mlflow/experiments/search?max_results=5"
    direct = httpx.Client(base_url=grown.url("MLFLOW"))
    for client, prefix in ((secure, "/mlflow"), (direct, "")):
        assert client.get(prefix + listing).status_code == 401
        assert client.get(prefix + listing, auth=("admin", "wrong password")).status_code == 401
        assert client.get(prefix + listing, auth=login).status_code == 200
    assert f"admin / {login[1]}" in grown.cli("login").stdout


def test_origins_are_checked_under_the_name(grown: Project, secure: httpx.Client) -> None:
    exports = grown.exports()
    login = (exports["MLFLOW_TRACKING_USERNAME"], exports["MLFLOW_TRACKING_PASSWORD"])
    create = "/mlflow/ajax-api/2.0/mlflow/experiments/create"
    for origin, status in ((str(secure.base_url).rstrip("/"), 200), ("https://evil.example", 403)):
        answer = secure.post(
            create, json={"name": f"from {status}"}, headers={"Origin": origin}, auth=login
        )
        assert answer.status_code == status


def fitting(project: Project) -> set[str]:
    """Names of the workers that fit a trial."""
    names = [name for name in project.containers() if "airflow-worker" in name]
    return {
        name for name in names if "tasks.search.child" in docker("top", name, "-eo", "pid,args")
    }


def both(names: set[str]) -> set[str]:
    """The workers' names once there are two, or nothing yet."""
    return names if len(names) == 2 else set()


def test_a_search_runs_on_the_workers_and_survives_one_of_them(
    grown: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with reached(grown, tmp_path_factory.mktemp("home")) as chain:
        run = chain.train(steady.NAME, trials=TRIALS, slots=2)
        search = chain.parent(steady.NAME, run)
        # the limits are those of a machine on which another stack is being killed again and again
        workers = until(lambda: both(fitting(grown)), 180, "each worker has a slot")
        until(lambda: rows(search), 180, "trials are recorded")
        before = rows(search)
        victim = min(workers)
        pid = pid_once(lambda: grown.containers()[victim]["State"]["Pid"], victim)
        os.kill(pid, signal.SIGKILL)
        assert chain.finish(steady.NAME, run, 1500) == "success"
        after = rows(search)
        assert {tid: after[tid] for tid in before} == before, "a recorded trial ran again"
        assert_published_once(steady.NAME, search, TRIALS)


def test_the_profile_by_option_only_is_refused(grown: Project) -> None:
    plain = grown.with_env(COMPOSE_PROFILES="")
    done = plain.compose(
        "--profile", "workers", "run", "--rm", "-T", "--no-deps", "airflow-worker", check=False
    )
    assert done.returncode == 1
    assert "set COMPOSE_PROFILES=workers in .env" in done.stderr
