"""The server as a process: its start, its port, and its end with requests in flight."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tasks.base.settings import REPOSITORY
from tasks.serving.gateway.site import write_routes
from tasks.serving.server.__main__ import KEEP_ALIVE_S, PORT_TAKEN
from tasks.stack.embedded import ports
from tests.tasks.serving.examples import ROW, Waiting
from tests.waiting import until

Start = Callable[..., tuple[subprocess.Popen[str], str]]


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
    until(lambda: not ports.free(port), 60, "it listens")
    answer = httpx.get(f"{url}/version", timeout=30)  # at the first try
    assert answer.json()["version"] == 3


def test_a_port_in_use_is_reported_at_once(ridge: Path, start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process, _ = start(ridge, other.getsockname()[1])
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "Address already in use" in output
    assert output.strip().endswith(PORT_TAKEN)


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path, start: Start) -> None:
    process, _ = start(tmp_path)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "MLmodel" in output


def test_only_this_machine_is_served(ridge: Path, start: Start) -> None:
    _, url = start(ridge)
    until(lambda: answers(url), 60, "it answers")
    with socket.socket() as client:
        address = ("127.0.0.2", int(url.rpartition(":")[2]))
        assert client.connect_ex(address) != 0


def test_a_request_in_flight_is_finished_after_sigterm(
    gate: Path, start: Start, tmp_path: Path
) -> None:
    process, url = start(gate)
    until(lambda: answers(url), 60, "it answers")
    waiting = Waiting(f"{url}/invocations", tmp_path)
    assert httpx.get(f"{url}/status").json() == {"version": 3, "inflight": 1, "requests": 1}
    process.send_signal(signal.SIGTERM)
    until(lambda: not answers(url), 60, "it accepts no more requests")
    assert process.poll() is None
    assert waiting.end().json() == {"predictions": [7.5]}
    process.communicate(timeout=10)


def test_the_gateway_gives_an_idle_connection_up_before_the_server_does(tmp_path: Path) -> None:
    """Otherwise a POST could use a connection that is closing. Read from both, not waited for."""
    write_routes(tmp_path, ["some"])
    timeout = re.search(r'"idle_timeout": "(\d+)s"', (tmp_path / "caddy.json").read_text())
    assert timeout is not None
    assert int(timeout[1]) < KEEP_ALIVE_S


def test_predictions_are_those_of_the_model(ridge: Path, start: Start) -> None:
    import mlflow
    import pandas as pd

    _, url = start(ridge)
    until(lambda: answers(url), 60, "it answers")
    answer = httpx.post(f"{url}/invocations", json={"dataframe_records": [ROW]})
    expected = mlflow.pyfunc.load_model(str(ridge)).predict(pd.DataFrame([ROW]))
    assert answer.json()["predictions"] == pytest.approx(expected.tolist(), rel=1e-12)
