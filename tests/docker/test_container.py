"""Servers in containers of a real engine: started, limited, restarted, swapped, removed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.linear_model import LinearRegression, Ridge

from tasks.base import process
from tasks.base.errors import RunFailedError, UnavailableError, UserError
from tasks.base.settings import Settings, settings
from tasks.clients import tracking
from tasks.pipeline.schema import Serving
from tasks.serving import model_files, smoke
from tasks.serving.targets import engine, image
from tasks.serving.targets.container import ContainerTarget
from tasks.serving.targets.deployment import Deployment, ask
from tasks.stack.embedded import ports
from tests.tasks.serving import examples
from tests.waiting import pid_once, until

pytestmark = pytest.mark.docker
NAME = "container_test"

HOG = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Hog(PythonModel):
    def predict(self, context, model_input, params=None):
        return [len(bytearray(int(size))) for size in model_input["size"]]


set_model(Hog())
"""

GATE = """
import time
from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Gate(PythonModel):
    def predict(self, context, model_input, params=None):
        while model_input["what"][0] == "wait" and not Path("/tmp/release").exists():
            time.sleep(0.01)
        Path("/tmp/release").touch()
        return list(model_input["what"])


set_model(Gate())
"""


def register(name: str, folder: Path, code: str, column: str, kind: DataType) -> None:
    """Log and register a model of one column, in Python."""
    file = folder / f"{name}.py"
    file.write_text(code)
    with mlflow.start_run(experiment_id=tracking.experiment(name)):
        mlflow.pyfunc.log_model(
            name="model",
            registered_model_name=name,
            python_model=str(file),
            signature=ModelSignature(inputs=Schema([ColSpec(kind, column)])),
            pip_requirements=examples.REQUIREMENTS,
        )


def post(deployment: Deployment, row: dict[str, Any]) -> httpx.Response:
    """One request to the first server."""
    url = f"http://{deployment.address}/invocations"
    return httpx.post(url, json={"dataframe_records": [row]}, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def versions(docker_target: Settings) -> tuple[int, int]:
    return examples.register(NAME, Ridge())[0], examples.register(NAME, LinearRegression())[0]


@pytest.fixture
def target(versions: tuple[int, int]) -> Iterator[ContainerTarget]:
    target = ContainerTarget()
    yield target
    for deployment in target.list():
        target.stop(deployment, 0)


def ready(target: ContainerTarget, version: int, **serving: Any) -> Deployment:
    deployment = target.start(NAME, version, Serving(**serving))
    target.wait_ready(deployment, 180)
    return deployment


def containers(name: str = NAME) -> list[Any]:
    filters = engine.ours(model=name)
    return list(engine.client().containers.list(all=True, filters=filters))


def only(name: str = NAME) -> Any:
    (container,) = containers(name)
    return container


def test_start_is_idempotent_and_stop_leaves_nothing(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    first = ready(target, versions[0])
    identity = ask(first.address, "/version")
    assert identity is not None
    assert (identity["name"], identity["version"]) == (NAME, versions[0])
    before = only().id
    again = target.start(NAME, versions[0], Serving())
    assert (again.addresses, only().id) == (first.addresses, before)
    assert (first.state, again.state) == ("starting", "running")
    assert target.list(NAME) == [again]
    target.stop(first, 5)
    assert target.list(NAME) == []
    assert containers() == []
    assert ask(first.address, "/ping") is None
    assert not list((settings().home / "models" / NAME).iterdir())


def test_the_container_may_do_little(target: ContainerTarget, versions: tuple[int, int]) -> None:
    ready(target, versions[0], cpus=0.5, memory="400m", environment={"A": "b"}, labels={"c": "d"})
    container = only()
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert config["User"] == "10001:10001"
    assert "A=b" in config["Env"]
    assert container.name == f"{settings().compose_project}-model-{NAME}-v{versions[0]}-1"
    assert {
        "c": "d",
        "mlops.project": settings().compose_project,
        "mlops.model": NAME,
        "mlops.version": str(versions[0]),
        "com.docker.compose.project": settings().compose_project,
        "com.docker.compose.service": f"model-{NAME}",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.oneoff": "False",
    }.items() <= container.labels.items()
    assert (host["Memory"], host["MemorySwap"]) == (400 * 2**20, 400 * 2**20)
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 256)
    assert (host["ReadonlyRootfs"], host["Privileged"], host["Init"]) == (True, False, True)
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }
    ((published,),) = host["PortBindings"].values()
    assert published["HostIp"] == "127.0.0.1"


def test_its_health_is_seen(target: ContainerTarget, versions: tuple[int, int]) -> None:
    ready(target, versions[0])

    def healthy() -> bool:
        container = only()
        return bool(container.attrs["State"]["Health"]["Status"] == "healthy")

    until(healthy, 60, "the engine calls it healthy")


def test_the_smoke_test(target: ContainerTarget, versions: tuple[int, int]) -> None:
    deployment = ready(target, versions[0], replicas=2)
    smoke.check(deployment, model_files.fetch(NAME, versions[0]))
    with pytest.raises(RunFailedError, match="failed the smoke test") as raised:
        smoke.check(deployment, model_files.fetch(NAME, versions[1]))
    assert "The logged example must give" in raised.value.why
    assert 10e6 < target.memory(deployment) < 1e9


def test_replicas_are_made_up_and_an_extra_one_can_go(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    two = ready(target, versions[0], replicas=2)
    containers()[0].remove(force=True)
    again = ready(target, versions[0], replicas=2)
    assert len(set(again.addresses)) == 2
    assert len(set(two.addresses) & set(again.addresses)) == 1
    single = target.start(NAME, versions[0], Serving(replicas=1))
    assert single.addresses == again.addresses[:1]
    assert len(target.list(NAME)) == 2  # until somebody stops it
    (extra,) = (server for server in target.list(NAME) if server.address not in single.addresses)
    target.stop(extra, 0)
    assert [server.addresses for server in target.list(NAME)] == [single.addresses]
    assert single.answers()


def test_other_limits_are_other_containers_beside_the_old_ones(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    before = ready(target, versions[0])
    after = ready(target, versions[0], memory="600m")
    assert before.addresses != after.addresses
    assert before.answers()
    assert [server.addresses for server in target.list(NAME)] == [before.addresses, after.addresses]


def kill() -> None:
    """As a crash would end it: the engine's own kill counts as a wish."""
    os.kill(pid_once(lambda: only().attrs["State"]["Pid"], NAME), signal.SIGKILL)


def test_a_crashed_server_comes_back_at_its_address(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    deployment = ready(target, versions[0])
    kill()
    until(lambda: only().attrs["RestartCount"] == 1, 30, "the engine has started it again")
    until(deployment.answers, 60, "it answers")
    assert target.start(NAME, versions[0], Serving()).addresses == deployment.addresses


def test_a_server_that_fills_its_memory_is_started_again(
    target: ContainerTarget, tmp_path: Path
) -> None:
    name = "hog"
    register(name, tmp_path, HOG, "size", DataType.long)
    deployment = target.start(name, 1, Serving(memory="500m"))
    target.wait_ready(deployment, 180)
    assert post(deployment, {"size": 1000}).json() == {"predictions": [1000]}
    with pytest.raises(httpx.TransportError):
        post(deployment, {"size": 2_000_000_000})
    until(lambda: only(name).attrs["RestartCount"] == 1, 30, "the engine has started it again")
    until(deployment.answers, 60, "it answers")
    assert post(deployment, {"size": 1000}).json() == {"predictions": [1000]}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_stopped_server_is_started_at_its_address(
    target: ContainerTarget, versions: tuple[int, int], how: str
) -> None:
    deployment = ready(target, versions[0])
    getattr(only(), how)()
    assert target.list(NAME)[0].state == "stopped"
    assert ready(target, versions[0]).addresses == deployment.addresses


def test_a_stopped_server_whose_port_is_taken_moves(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    deployment = ready(target, versions[0])
    only().stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(deployment.address.rpartition(":")[2])))
        other.listen()
        moved = ready(target, versions[0])
    assert moved.address != deployment.address
    assert [server.addresses for server in target.list(NAME)] == [moved.addresses]


def test_a_port_that_is_taken_meanwhile_is_no_fault_of_the_version(
    target: ContainerTarget, versions: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with monkeypatch.context() as patch:
            patch.setattr(ports, "unused", lambda: taken)
            with pytest.raises(UnavailableError, match="port is taken"):
                target.start(NAME, versions[0], Serving())
    assert containers() == []


def test_a_stuck_server_is_replaced(
    target: ContainerTarget, versions: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.serving.targets.deployment.YOUNG_S", 0)
    monkeypatch.setattr("tasks.serving.targets.deployment.PATIENCE", 1)
    deployment = ready(target, versions[0])
    began = only().attrs["State"]["StartedAt"]
    stopped = []
    for line in only().top()["Processes"]:
        with suppress(ProcessLookupError):  # a health probe that has ended
            os.kill(int(line[1]), signal.SIGSTOP)
            stopped.append(int(line[1]))
    until(lambda: {process.state(pid) for pid in stopped} <= {"T", "Z", ""}, 5, "they are stopped")
    assert ready(target, versions[0]).addresses == deployment.addresses
    assert only().attrs["State"]["StartedAt"] > began


def test_an_image_that_is_gone_is_built_again(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    ready(target, versions[0])
    engine.client().images.remove(image.tag(NAME, versions[0]), force=True)
    assert ready(target, versions[0]).answers()


def test_a_server_that_ends_early_shows_its_log(target: ContainerTarget, tmp_path: Path) -> None:
    name = "broken_container"
    examples.register_broken(name, tmp_path)
    deployment = target.start(name, 1, Serving())
    with pytest.raises(RunFailedError, match="ended before it answered") as raised:
        target.wait_ready(deployment, 180)
    assert "RuntimeError: the reason" in raised.value.why
    target.stop(deployment, 0)
    assert containers(name) == []


def test_a_server_without_enough_memory_fails(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    deployment = target.start(NAME, versions[0], Serving(memory="64m"))
    with pytest.raises(RunFailedError, match="ended before it answered") as raised:
        target.wait_ready(deployment, 180)
    assert "'serving.memory'" in raised.value.fix


def test_what_the_engine_refuses_is_the_users_to_mend(
    target: ContainerTarget, versions: tuple[int, int]
) -> None:
    with pytest.raises(UserError, match="refused") as raised:
        target.start(NAME, versions[0], Serving(cpus=1000))
    assert "CPUs" in raised.value.why
    assert containers() == []


def test_an_engine_that_does_not_answer(
    target: ContainerTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    settings.cache_clear()
    engine.client.cache_clear()
    try:
        with pytest.raises(UnavailableError, match="does not answer"):
            target.list()
    finally:
        monkeypatch.undo()
        settings.cache_clear()
        engine.client.cache_clear()


def test_stop_waits_for_requests_in_flight(target: ContainerTarget, tmp_path: Path) -> None:
    name = "draining"
    register(name, tmp_path, GATE, "what", DataType.string)
    deployment = target.start(name, 1, Serving())
    target.wait_ready(deployment, 180)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(post, deployment, {"what": "wait"})
        until(
            lambda: (ask(deployment.address, "/status") or {}).get("inflight") == 1,
            60,
            "it is in flight",
        )
        stopping = threading.Thread(target=target.stop, args=(deployment, 60))
        stopping.start()
        stopping.join(2)  # several looks at /status
        assert stopping.is_alive()
        assert deployment.answers()
        assert post(deployment, {"what": "release"}).is_success
        assert waiting.result(60).json() == {"predictions": ["wait"]}
    stopping.join(30)
    assert target.list(name) == []
