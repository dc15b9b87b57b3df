"""The gateway in front of real servers: routes, errors, and a switch that drops nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.base.settings import settings
from tasks.pipeline import load
from tasks.serving.gateway import site, upstreams
from tasks.stack import health
from tasks.stack.embedded import leftovers, ports, services
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import Stack
from tasks.stack.embedded.supervisor import Supervisor
from tests.waiting import pid_once, until


class Model(ThreadingHTTPServer):
    """Answers with its own name and the request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name = name
        self.posts = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.posts += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/crash":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        seen = {"name": self.server.name, "path": self.path, "body": body.decode()}
        content = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway for the models `one` and `two`, with servers in place of Airflow and MLflow."""
    home = Home(tmp_path_factory.mktemp("gateway"))
    home.create()
    behind = Model("airflow"), Model("mlflow")
    airflow, mlflow = (server.server_port for server in behind)
    stack = Stack(home, ports.Ports(gateway=ports.unused(), airflow=airflow, mlflow=mlflow))
    pipelines = tmp_path_factory.mktemp("pipelines")
    for name in ("one", "two"):
        (pipelines / f"{name}.yaml").touch()
    environment = {
        "MLOPS_HOME": str(home.root),
        "MLOPS_PIPELINES": str(pipelines),
        "MLOPS_GATEWAY_LISTEN": f"127.0.0.1:{stack.ports.gateway}",
        "MLOPS_AIRFLOW_URL": stack.url("airflow"),
        "MLFLOW_TRACKING_URI": stack.url("mlflow"),
    }
    patch = pytest.MonkeyPatch()
    for name, value in environment.items():
        patch.setenv(name, value)
    settings.cache_clear()
    supervisor = Supervisor(home)
    leftovers.record(home, supervisor.start())
    supervisor.add(services.gateway(stack))
    until(lambda: health.web(stack.ports.gateway), 20, "the gateway answers")
    yield stack
    os.kill(pid_once(supervisor.pid, "supervisord"), signal.SIGTERM)
    until(lambda: supervisor.pid() is None, 20, "supervisord has ended")
    for server in behind:
        server.stop()
    patch.undo()
    settings.cache_clear()


@pytest.fixture
def models(running: Stack) -> Iterator[tuple[Model, Model]]:
    """Two servers, the first of which serves `one`."""
    pair = Model("first"), Model("second")
    upstreams.switch(running.home.gateway, "one", [pair[0].address])
    yield pair
    upstreams.remove(running.home.gateway, "one")
    for model in pair:
        model.stop()


def ask(stack: Stack, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports.gateway, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_request_reaches_the_models_server_below_its_prefix(
    running: Stack, models: tuple[Model, Model]
) -> None:
    status, seen = ask(running, "POST", "/models/one/invocations?a=1", "body")
    assert status == 200
    assert seen == {"name": "first", "path": "/invocations?a=1", "body": "body"}


@pytest.mark.parametrize("path", ["/models/three/invocations", "/models/", "/", "/caddy.json"])
def test_an_unknown_model_is_404_as_in_mlflow(running: Stack, path: str) -> None:
    status, error = ask(running, "POST", path, "{}")
    assert status == 404
    assert error["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert error["message"]


def test_a_model_without_a_server_is_503(running: Stack) -> None:
    status, error = ask(running, "GET", "/models/two/ping")
    assert status == 503
    assert "No server of this model" in error["message"]


def test_a_short_gap_is_waited_for(running: Stack, models: tuple[Model, Model]) -> None:
    first, second = models
    first.stop()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(ask, running, "POST", "/models/one/invocations", "x")
        time.sleep(1)  # the gap itself
        upstreams.switch(running.home.gateway, "one", [second.address])
        status, seen = pending.result()
    assert (status, seen["name"]) == (200, "second")


def test_a_post_that_reached_a_server_is_not_repeated(
    running: Stack, models: tuple[Model, Model]
) -> None:
    status, error = ask(running, "POST", "/models/one/crash", "x")
    assert status == 503
    assert error["error_code"]
    assert models[0].posts == 1


def test_a_switch_under_traffic_loses_no_request(
    running: Stack, models: tuple[Model, Model]
) -> None:
    done = threading.Event()
    answers: list[tuple[int, str]] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.ports.gateway, timeout=30)
        while not done.is_set():
            connection.request("POST", "/models/one/invocations", "x")
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())["name"]))
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        for turn in range(1, 11):
            seen = len(answers)
            until(lambda seen=seen: len(answers) > seen + 50, 30, "requests are answered")
            upstreams.switch(running.home.gateway, "one", [models[turn % 2].address])
        done.set()
        for pending in clients:
            pending.result()
    assert {status for status, _ in answers} == {200}
    assert {name for _, name in answers} == {"first", "second"}
    assert models[0].posts + models[1].posts == len(answers)


def test_a_new_route_is_read_without_a_restart(running: Stack, models: tuple[Model, Model]) -> None:
    folder = running.home.gateway
    assert ask(running, "GET", "/models/new/ping")[0] == 404
    assert site.write_routes(folder, ["two", "one", "new"])
    upstreams.switch(folder, "new", [models[1].address])
    try:
        until(lambda: ask(running, "GET", "/models/new/ping")[0] == 200, 20, "the route exists")
        assert not site.write_routes(folder, ["new", "one", "two", "one"])
    finally:
        upstreams.remove(folder, "new")


def test_a_model_without_a_pipeline_file_keeps_its_route(tmp_path: Path) -> None:
    site.write_routes(tmp_path, load.names())
    upstreams.switch(tmp_path, "by_hand", ["127.0.0.1:1"])
    assert site.routed(tmp_path) == {*load.names(), "by_hand"}


def test_the_current_addresses(running: Stack, models: tuple[Model, Model]) -> None:
    folder = running.home.gateway
    assert upstreams.current(folder, "one") == (models[0].address,)
    assert upstreams.current(folder, "two") == ()
    upstreams.remove(folder, "two")  # it has no endpoint: no error


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_requests_go_to_each_of_several_servers(running: Stack, count: int) -> None:
    folder = running.home.gateway
    several = [Model(f"server {number}") for number in range(count)]
    try:
        upstreams.switch(folder, "one", [model.address for model in several])
        assert upstreams.current(folder, "one") == tuple(model.address for model in several)
        seen = [ask(running, "GET", "/models/one/x")[1]["name"] for _ in range(24)]
        shares = {model.name: seen.count(model.name) for model in several}
        assert min(shares.values()) >= 24 // 12 * (12 // count)
    finally:
        upstreams.remove(folder, "one")
        for model in several:
            model.stop()


def test_a_dead_one_of_several_loses_no_request(
    running: Stack, models: tuple[Model, Model]
) -> None:
    upstreams.switch(running.home.gateway, "one", [model.address for model in models])
    models[0].stop()
    answers = [ask(running, "POST", "/models/one/x", "body") for _ in range(24)]
    assert {(status, seen["name"]) for status, seen in answers} == {(200, "second")}


def test_a_switch_leaves_nothing_behind(running: Stack, models: tuple[Model, Model]) -> None:
    folder = running.home.gateway
    upstreams.switch(folder, "one-two", [models[0].address])  # a name that begins as another does
    for addresses in (["a:1"], ["a:1", "b:2"], ["a:1"]):
        upstreams.switch(folder, "one", addresses)
    names = {path.name for path in (folder / "upstreams").iterdir()}
    assert {"one", "one-two"} <= names
    assert len(names) == 4
    assert upstreams.current(folder, "one-two") == (models[0].address,)
    upstreams.remove(folder, "one-two")
    upstreams.remove(folder, "one")
    assert list((folder / "upstreams").iterdir()) == []


def test_what_a_killed_removal_left_is_not_served_again(tmp_path: Path) -> None:
    (tmp_path / "upstreams").mkdir()
    upstreams.switch(tmp_path, "one", ["a:1"])
    folder = (tmp_path / "upstreams" / "one").resolve()
    (folder / "3").unlink()
    (folder / "4").write_text("")  # as after a power cut
    upstreams.switch(tmp_path, "one", ["a:1"])
    assert upstreams.current(tmp_path, "one") == ("a:1",)


@pytest.mark.parametrize(
    ("bind", "login"), [("127.0.0.1", "off"), ("0.0.0.0", "off"), ("0.0.0.0", "on"), ("::", "off")]
)
@pytest.mark.usefixtures("running")
def test_mlflow_without_a_login_is_not_opened_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind: str, login: str
) -> None:
    monkeypatch.setenv("MLOPS_BIND", bind)
    monkeypatch.setenv("MLOPS_MLFLOW_LOGIN", login)
    settings.cache_clear()
    site.write_routes(tmp_path, ["one"])
    settings.cache_clear()
    closed = "MLflow has no login here" in (tmp_path / "caddy.json").read_text()
    assert closed is (bind != "127.0.0.1" and login == "off")


@pytest.mark.parametrize("count", [0, 13])
def test_too_few_and_too_many_servers_are_refused(running: Stack, count: int) -> None:
    with pytest.raises(ValueError, match="'addresses' of a model must be 1 to 12"):
        upstreams.switch(running.home.gateway, "one", ["a:1"] * count)


def test_the_start_page_and_its_files(running: Stack) -> None:
    for path, kind, part in (
        ("/", "text/html", b"<title>"),
        ("/page.css", "text/css", b"body"),
        ("/page.js", "text/javascript", b"fetch"),
        ("/models.json", "application/json", b'["new", "one", "two"]'),
    ):
        answer = raw(running, path)
        assert answer.status == 200
        assert answer.getheader("Content-Type", "").startswith(kind)
        assert part in answer.read()
        assert "default-src 'none'" in answer.getheader("Content-Security-Policy", "")


def test_airflow_keeps_its_prefix_and_mlflow_has_none(running: Stack) -> None:
    assert ask(running, "GET", "/airflow/dags?x=1")[1] == {
        "name": "airflow", "path": "/airflow/dags?x=1", "body": "",
    }  # fmt: skip
    assert ask(running, "POST", "/mlflow/ajax-api/x", "b")[1] == {
        "name": "mlflow", "path": "/ajax-api/x", "body": "b",
    }  # fmt: skip
    for path in ("/airflow", "/mlflow", "/models/one"):
        answer = raw(running, path)
        assert (answer.status, answer.getheader("Location")) == (302, f"{path}/")


def raw(stack: Stack, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", stack.ports.gateway, timeout=30)
    connection.request("GET", path)
    return connection.getresponse()


@pytest.mark.parametrize("name", ["../caddy.json", "a/b", "", ".hidden", "{env.HOME}"])
def test_a_name_that_is_no_file_name_is_refused(running: Stack, name: str) -> None:
    with pytest.raises(ValueError, match="'name' of a model must"):
        upstreams.switch(running.home.gateway, name, ["127.0.0.1:1"])
    with pytest.raises(ValueError, match="'name' of a model must"):
        site.write_routes(running.home.gateway, [name])
