"""Servers as programs of a real supervisor, with real versions from MLflow."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.tree import DecisionTreeClassifier

from tasks.base import process
from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import Settings
from tasks.clients import tracking
from tasks.pipeline.schema import Serving
from tasks.serving import model_files
from tasks.serving.targets.deployment import Deployment, ask
from tasks.serving.targets.process import ProcessTarget
from tasks.stack.embedded import lifecycle, supervisor
from tasks.stack.embedded.home import Home
from tests.tasks.serving import examples
from tests.waiting import until

NAME = "process_test"


@pytest.fixture(scope="module")
def versions(servers: Settings) -> tuple[int, int]:
    return examples.register(NAME, Ridge())[0], examples.register(NAME, LinearRegression())[0]


@pytest.fixture
def target(versions: tuple[int, int]) -> Iterator[ProcessTarget]:
    target = ProcessTarget()
    yield target
    for deployment in target.list():
        target.stop(deployment, 0)


def ready(target: ProcessTarget, version: int) -> Deployment:
    deployment = target.start(NAME, version, Serving())
    target.wait_ready(deployment, 60)
    return deployment


def pid(deployment: Deployment) -> int | None:
    state = supervisor.programs().get(f"model-{deployment.name}-v{deployment.version}")
    return state.pid if state else None


def test_start_is_idempotent_and_stop_leaves_nothing(
    target: ProcessTarget, versions: tuple[int, int]
) -> None:
    first = ready(target, versions[0])
    identity = ask(first.address, "/version")
    assert identity is not None
    assert (identity["name"], identity["version"]) == (NAME, versions[0])
    before = pid(first)
    again = target.start(NAME, versions[0], Serving())
    assert (again.address, pid(again)) == (first.address, before)
    until(lambda: target.list(NAME)[0].state == "running", 60, "the supervisor calls it running")
    target.stop(first, 5)
    assert target.list(NAME) == []
    assert ask(first.address, "/ping") is None
    assert not list((model_files.settings().home / "models" / NAME).iterdir())


def test_probabilities_as_the_file_asks(target: ProcessTarget, servers: Settings) -> None:
    version, _ = examples.register(NAME, DecisionTreeClassifier(max_depth=2))

    def answered(*, probabilities: bool) -> set[str]:
        serving = Serving(probabilities=probabilities)
        deployment = target.start(NAME, version, serving)
        target.wait_ready(deployment, 60)
        before = pid(deployment)
        assert pid(target.start(NAME, version, serving)) == before
        url = f"http://{deployment.address}/invocations"
        return set(httpx.post(url, json={"dataframe_records": [examples.ROW]}).json())

    assert answered(probabilities=False) == {"predictions"}
    assert answered(probabilities=True) == {"predictions", "classes", "probabilities"}
    assert answered(probabilities=False) == {"predictions"}


def test_two_versions_side_by_side(target: ProcessTarget, versions: tuple[int, int]) -> None:
    first, second = (ready(target, version) for version in versions)
    assert first.address != second.address
    assert [server.version for server in target.list(NAME)] == list(versions)
    assert target.list("other") == []


def test_a_killed_server_comes_back_at_its_address(
    target: ProcessTarget, versions: tuple[int, int]
) -> None:
    deployment = ready(target, versions[0])
    before = pid(deployment)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: pid(deployment) not in (None, before), 60, "it is restarted")
    until(deployment.answers, 60, "it answers")


def test_a_stopped_server_starts_at_its_old_port_or_moves_when_that_is_taken(
    target: ProcessTarget, versions: tuple[int, int]
) -> None:
    deployment = ready(target, versions[0])
    program = f"model-{NAME}-v{versions[0]}"
    supervisor.Supervisor(Home.of_settings()).stop([program])
    assert target.list(NAME)[0].state == "stopped"
    assert target.start(NAME, versions[0], Serving()).address == deployment.address
    target.wait_ready(deployment, 60)
    supervisor.Supervisor(Home.of_settings()).stop([program])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(deployment.address.rpartition(":")[2])))
        other.listen()
        moved = target.start(NAME, versions[0], Serving())
        assert moved.address != deployment.address
        target.wait_ready(moved, 60)


def test_a_port_that_is_taken_meanwhile_is_no_fault_of_the_version(
    target: ProcessTarget, versions: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with monkeypatch.context() as patch:
            patch.setattr("tasks.serving.targets.process._unused_port", lambda: taken)
            deployment = target.start(NAME, versions[0], Serving())
        with pytest.raises(UnavailableError, match="ended before it answered"):
            target.wait_ready(deployment, 60)
        moved = ready(target, versions[0])
    assert moved.address != deployment.address


def test_servers_come_back_with_the_stack(target: ProcessTarget, versions: tuple[int, int]) -> None:
    deployment = ready(target, versions[0])
    supervisor.Supervisor(Home.of_settings()).stop([f"model-{NAME}-v{versions[0]}"])
    lifecycle.start(only=("postgres", "store", "mlflow"))
    target.wait_ready(deployment, 60)
    assert [server.address for server in target.list(NAME)] == [deployment.address]


def test_a_stuck_server_is_replaced(
    target: ProcessTarget, versions: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.serving.targets.deployment.YOUNG_S", 0)
    monkeypatch.setattr("tasks.serving.targets.deployment.PATIENCE", 1)
    deployment = ready(target, versions[0])
    before = pid(deployment)
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    until(lambda: process.state(before) == "T", 5, "it is stopped")
    again = target.start(NAME, versions[0], Serving())
    target.wait_ready(again, 60)
    assert pid(again) != before


def test_a_model_made_again_under_the_same_number_is_not_mistaken(target: ProcessTarget) -> None:
    name = "made_again"
    for estimator in (Ridge(), LinearRegression()):
        version, run_id = examples.register(name, estimator)
        assert version == 1
        deployment = target.start(name, version, Serving())
        target.wait_ready(deployment, 60)
        identity = ask(deployment.address, "/version")
        assert identity is not None
        assert identity["run_id"] == run_id
        tracking.client().delete_registered_model(name)


def test_a_server_that_ends_early_shows_its_log(
    target: ProcessTarget, tmp_path: Path, servers: Settings
) -> None:
    name = "broken_model"
    examples.register_broken(name, tmp_path)
    deployment = target.start(name, 1, Serving())
    with pytest.raises(RunFailedError, match="ended before it answered") as raised:
        target.wait_ready(deployment, 60)
    assert "RuntimeError: the reason" in raised.value.why
    target.stop(deployment, 0)
    assert target.list(name) == []


def test_a_version_that_is_not_there(target: ProcessTarget) -> None:
    with pytest.raises(RunFailedError, match="no version 99"):
        target.start(NAME, 99, Serving())


def test_stop_waits_for_requests_in_flight(
    target: ProcessTarget, servers: Settings, tmp_path: Path
) -> None:
    name = "draining"
    deployment = target.start(name, examples.register_gate(name, tmp_path), Serving())
    target.wait_ready(deployment, 60)
    waiting = examples.Waiting(f"http://{deployment.address}/invocations", tmp_path)
    stopping = threading.Thread(target=target.stop, args=(deployment, 60))
    stopping.start()
    stopping.join(2)  # several looks at /status
    assert stopping.is_alive()
    assert deployment.answers()
    assert waiting.end().json() == {"predictions": [7.5]}
    stopping.join(30)
    assert target.list(name) == []
