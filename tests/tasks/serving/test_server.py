"""The server as a process: its start, its port, and its end with requests in flight."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tasks.settings import REPOSITORY
from tasks.stack import ports
from tests.tasks.serving.examples import ROW

Start = Callable[..., tuple[subprocess.Popen[str], str]]


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping", timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def start() -> Iterator[Start]:
    running = []

    def run(model: Path, port: int | None = None) -> tuple[subprocess.Popen[str], str]:
        port = port or ports.unused()
        command = [sys.executable, "-m", "tasks.serving.server", "--name", "some", "--version", "3"]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--model", str(model)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process, f"http://127.0.0.1:{port}"

    yield run
    for process in running:
        process.kill()
        process.communicate()


def test_clients_that_come_early_wait(ridge: Path, start: Start) -> None:
    _, url = start(ridge)
    port = int(url.rpartition(":")[2])
    wait_for(lambda: not ports.free(port))
    answer = httpx.get(f"{url}/version", timeout=30)  # at the first try
    assert answer.json()["version"] == 3


def test_a_port_in_use_is_said_at_once(ridge: Path, start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process, _ = start(ridge, other.getsockname()[1])
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "cannot listen on 127.0.0.1" in output
    assert "Address already in use" in output


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path, start: Start) -> None:
    process, _ = start(tmp_path)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "MLmodel" in output


def test_only_this_machine_is_served(ridge: Path, start: Start) -> None:
    _, url = start(ridge)
    wait_for(lambda: answers(url))
    with socket.socket() as client:
        address = ("127.0.0.2", int(url.rpartition(":")[2]))
        assert client.connect_ex(address) != 0


def test_a_request_in_flight_is_finished_after_sigterm(
    gate: Path, start: Start, tmp_path: Path
) -> None:
    process, url = start(gate)
    wait_for(lambda: answers(url))
    began, release = tmp_path / "began", tmp_path / "release"
    row = {"began": str(began), "release": str(release), "answer": 4.5}
    with ThreadPoolExecutor() as pool:
        flying = pool.submit(
            httpx.post, f"{url}/invocations", json={"dataframe_records": [row]}, timeout=30
        )
        wait_for(began.exists)
        assert httpx.get(f"{url}/status").json() == {"version": 3, "inflight": 1, "requests": 1}
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not answers(url))
        assert process.poll() is None
        release.touch()
        assert flying.result().json() == {"predictions": [4.5]}
    process.communicate(timeout=10)


def test_an_idle_connection_is_kept_longer_than_the_gateway_keeps_it(
    ridge: Path, start: Start
) -> None:
    """Looked up, not waited for: uvicorn's default of 5 s would lose POSTs of the gateway."""
    from tasks.serving import server
    from tasks.stack.gateway import write_routes

    folder = ridge.parent / "gateway"
    folder.mkdir(exist_ok=True)
    write_routes(folder, 1, ["some"])
    assert '"idle_timeout": "30s"' in (folder / "caddy.json").read_text()
    assert server.KEEP_ALIVE_S > 30


def test_predictions_are_those_of_the_model(ridge: Path, start: Start) -> None:
    import mlflow
    import pandas as pd

    _, url = start(ridge)
    wait_for(lambda: answers(url))
    answer = httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]})
    expected = mlflow.pyfunc.load_model(str(ridge)).predict(pd.DataFrame([ROW]))
    assert answer.json()["predictions"] == pytest.approx(expected.tolist(), rel=1e-12)
