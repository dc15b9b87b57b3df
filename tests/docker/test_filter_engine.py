"""The filter in front of a real engine: the honest workflow, and attacks on what is not ours."""

from __future__ import annotations

import io
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import docker.errors
import pytest
from docker.types import LogConfig

from tests.docker.attacks import REQUESTS
from tests.docker.filtering import (
    BASE,
    CuttableRelay,
    RunningFilter,
    archive,
    http,
    message,
    running_filter,
    send,
)
from tests.docker.world import (
    MAX_CONTAINERS,
    Attack,
    World,
    container,
    own_labels,
    world_with_engine,
)
from tests.waiting import until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An engine with a victim in it."""
    with world_with_engine() as made:
        yield made


@pytest.fixture(scope="module")
def filtered(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFilter]:
    """The filter in front of that engine."""
    log = tmp_path_factory.mktemp("filter") / "log"
    with running_filter(log, **world.filter_settings()) as service:
        yield service


@pytest.fixture
def client(filtered: RunningFilter) -> Iterator[Any]:
    """An honest client of the filter."""
    url = f"tcp://127.0.0.1:{filtered.port}"
    with closing(docker.DockerClient(url, version="auto")) as connected:
        yield connected


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    """Remove whatever a test made."""
    yield
    world.clear()


LINES = (
    'CMD ["python3", "-u", "-c", "import time\\nfor i in range(999): print(i); time.sleep(.2)"]\n'
)


def build(client: Any, world: World, tag: str, dockerfile: str, **options: Any) -> Any:
    context = io.BytesIO(archive({"Dockerfile": dockerfile, "model/a.txt": "1"}))
    return client.images.build(
        fileobj=context, custom_context=True, tag=f"{world.marker}/{tag}", **options
    )


def create(client: Any, world: World, number: int = 1) -> Any:
    return client.containers.create(
        f"{world.marker}/wine:1",
        name=f"{world.marker}-model-wine-v1-{number}",
        labels={**own_labels(world), "mlops.model": "wine"},
        user="10001:10001",
        network=world.network,
        mem_limit="64m",
        memswap_limit="64m",
        nano_cpus=500_000_000,
        pids_limit=64,
        environment={"A": "b=c"},
        init=True,
        read_only=True,
        tmpfs={"/tmp": "size=16m,mode=1777"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        restart_policy={"Name": "unless-stopped"},
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
    )


def test_the_whole_workflow(client: Any, world: World) -> None:
    assert client.ping()
    dockerfile = f"ARG BASE=x\nFROM ${{BASE}}\nCOPY model /model\nRUN test -f /model/a.txt\n{LINES}"
    options = {"buildargs": {"BASE": BASE}, "labels": {"mlops.model": "wine"}}
    image, output = build(client, world, "wine:1", dockerfile, network_mode="none", **options)
    assert any("Successfully tagged" in line.get("stream", "") for line in output)
    assert image.labels == {"mlops.model": "wine", "mlops.project": world.marker}
    rebuilt, output = build(client, world, "wine:1", dockerfile, network_mode="none", **options)
    assert rebuilt.id == image.id
    assert sum("Using cache" in line.get("stream", "") for line in output) >= 4

    model = create(client, world)
    model.start()
    model.reload()
    assert (model.status, model.attrs["Config"]["Image"]) == ("running", image.id)
    host = model.attrs["HostConfig"]
    assert host["MemorySwap"] == 64 << 20
    assert (host["IpcMode"], host["CgroupnsMode"]) == ("private", "private")
    assert list(model.attrs["NetworkSettings"]["Networks"]) == [world.network]
    until(lambda: b"2\n" in model.logs(), 10, "the model has logged a line")
    assert model.stats(stream=False)["memory_stats"]["limit"] == 64 << 20
    filters = {"label": "mlops.model=wine"}
    assert [listed.name for listed in client.containers.list(all=True, filters=filters)] == [
        model.name
    ]
    named = client.images.list(name=f"{world.marker}/wine")
    assert [listed.id for listed in named] == [image.id]
    assert client.images.get(BASE).id == world.image_id(BASE)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(f"{world.marker}/wine@sha256:{'0' * 64}")

    model.stop(timeout=1)
    assert model.wait()["StatusCode"] in {143, 137, 0}
    model.start()
    model.kill()
    model.remove(force=True, v=True)
    client.images.remove(f"{world.marker}/wine:1")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(model.id)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(image.id)


@pytest.mark.parametrize(
    "attack", [attack for attack in REQUESTS if not attack.denial], ids=lambda attack: attack.name
)
def test_an_attack_leaves_the_engine_as_it_is(
    attack: Attack, world: World, filtered: RunningFilter
) -> None:
    before = world.state()
    status, reply = send(filtered.address, attack.request(world))
    if attack.served:
        assert status in {200, 204}
        world.clear()  # a build may have made something of what was checked
    else:
        assert status in {400, 403, 404, 413}
        assert message(reply)
    assert world.state() == before
    if attack.leak:
        assert attack.leak(world).encode() not in reply
    assert send(filtered.address, http("GET", "/_ping"))[0] == 200


# ---- What is checked against the engine's state.


def test_containers_are_counted(world: World, client: Any) -> None:
    world.engine.images.get(world.own_image).tag(f"{world.marker}/wine", "1")

    def attempt(number: int) -> str:
        try:
            return str(create(client, world, number).id)
        except docker.errors.APIError as err:
            return str(err.explanation)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(attempt, range(6)))
    denied = "docker filter: containers: 5 is denied; allowed: 4 at a time"
    assert results.count(denied) == 6 - (MAX_CONTAINERS - 1)  # one of ours already exists
    assert len(client.containers.list(all=True)) == MAX_CONTAINERS


def test_a_tag_of_another_project_is_left_to_it(world: World, client: Any) -> None:
    world.build(f"{world.marker}/theirs:1", f"FROM {BASE}\n", **{"mlops.project": "theirs"})
    theirs = world.image_id(f"{world.marker}/theirs:1")
    with pytest.raises(docker.errors.APIError, match="is denied"):
        build(client, world, "theirs:1", f"FROM {BASE}\n")
    with pytest.raises(docker.errors.APIError, match="is denied"):
        client.images.remove(f"{world.marker}/theirs:1")
    with pytest.raises(docker.errors.APIError, match="is denied"):
        build(client, world, "ours:1", f"FROM {world.marker}/theirs:1\n")
    assert world.image_id(f"{world.marker}/theirs:1") == theirs


def test_labels_alone_do_not_make_an_image_ours(world: World, client: Any) -> None:
    tag = f"{world.marker}-faked/x:1"
    world.build(tag, f"FROM {BASE}\n", **{"mlops.project": world.marker})
    image = world.image_id(tag)
    assert image not in [listed.id for listed in client.images.list(all=True)]
    for name in (tag, image, image[7:19]):
        with pytest.raises(docker.errors.APIError, match="is denied"):
            client.images.remove(name, force=True)
        with pytest.raises(docker.errors.APIError, match="is denied"):
            client.api.create_container_from_config(
                container(world, Image=name), f"{world.marker}-model-x"
            )
    assert world.image_id(tag) == image


def test_services_of_compose_are_never_ours(world: World, client: Any) -> None:
    labels = {**own_labels(world), "com.docker.compose.service": "postgres"}
    service = world.engine.containers.run(
        world.own_image, labels=labels, name=f"{world.marker}-postgres", detach=True
    )
    assert service.name not in [listed.name for listed in client.containers.list(all=True)]
    for method in (client.api.kill, client.api.inspect_container, client.api.logs):
        with pytest.raises(docker.errors.APIError, match="is denied"):
            method(service.id)
    service.reload()
    assert service.status == "running"


def test_what_a_killed_build_left_can_be_removed(world: World, client: Any) -> None:
    """It has its image's label and no name."""
    left = world.engine.containers.create(world.own_image)
    assert left.id in [listed.id for listed in client.containers.list(all=True)]
    client.containers.get(left.id).remove(force=True)
    with pytest.raises(docker.errors.NotFound):
        left.reload()
    world.build(
        f"{world.marker}/left:1", f"FROM {BASE}\nENV A=1\n", **{"mlops.project": world.marker}
    )
    image = world.image_id(f"{world.marker}/left:1")
    world.build(
        f"{world.marker}/left:1", f"FROM {BASE}\nENV A=2\n", **{"mlops.project": world.marker}
    )
    client.images.remove(image)
    with pytest.raises(docker.errors.ImageNotFound):
        world.engine.images.get(image)


def test_one_of_two_names_is_removed_alone(world: World, client: Any) -> None:
    build(client, world, "a:1", f"FROM {BASE}\nENV A=3\n")
    build(client, world, "a:2", f"FROM {BASE}\nENV A=3\n")
    client.images.remove(f"{world.marker}/a:1")
    assert client.images.get(f"{world.marker}/a:2").tags == [f"{world.marker}/a:2"]


def test_labels_of_an_image_do_not_pass_to_its_containers(world: World, client: Any) -> None:
    dockerfile = f"FROM {BASE}\nLABEL traefik.enable=true com.docker.compose.project=x mlops.a=1\n"
    build(client, world, "wine:1", dockerfile)
    labels = create(client, world).labels
    assert labels["traefik.enable"] == ""
    assert (labels["com.docker.compose.project"], labels["mlops.a"]) == (world.marker, "1")


def test_an_image_with_volumes_is_not_run(world: World, client: Any) -> None:
    world.build(
        f"{world.marker}/wine:1", f"FROM {BASE}\nVOLUME /x\n", **{"mlops.project": world.marker}
    )
    with pytest.raises(docker.errors.APIError, match="VOLUME"):
        create(client, world)


def test_a_build_is_bounded(world: World, client: Any) -> None:
    limits = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us "
        "/sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2>/dev/null || true"
    )
    _, output = build(client, world, "bounded:1", f"FROM {BASE}\nRUN {limits} # {uuid4()}\n")
    text = "".join(line.get("stream", "") for line in output)
    assert re.search(rf"^{256 << 20}$", text, re.MULTILINE), text
    assert re.search(r"^150000( 100000)?$", text, re.MULTILINE), text


def test_an_unfinished_context_builds_nothing(world: World, filtered: RunningFilter) -> None:
    before = world.state()
    context = archive({"Dockerfile": f"FROM {BASE}\nLABEL x={uuid4()}\n"})
    with socket.create_connection(filtered.address) as connection:
        connection.sendall(http("POST", f"/build?t={world.marker}/cut:1", context)[:-1400])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert world.state() == before


# ---- Streams, clients that hang up, an engine that restarts.


def test_logs_and_build_output_stream(world: World, client: Any, filtered: RunningFilter) -> None:
    held = filtered.open_files()
    dockerfile = f"FROM {BASE}\nRUN echo first-line && sleep 2 && echo {uuid4()}\n{LINES}"
    context = io.BytesIO(archive({"Dockerfile": dockerfile}))
    output = client.api.build(
        fileobj=context, custom_context=True, tag=f"{world.marker}/wine:1", decode=True
    )
    next(line for line in output if line.get("stream") == "first-line\n")
    began = time.monotonic()
    assert "Successfully" in list(output)[-1]["stream"]
    assert time.monotonic() - began > 1.5

    model = create(client, world)
    model.start()
    lines = model.logs(stream=True, follow=True)
    assert [next(lines), next(lines)] == [b"0\n", b"1\n"]
    lines.close()
    client.close()
    until(lambda: filtered.open_files() <= held, 10, "all connections are closed")


def test_a_build_ends_with_its_client(world: World, filtered: RunningFilter) -> None:
    held = filtered.open_files()
    context = archive({"Dockerfile": f"FROM {world.own_image}\nRUN sleep 300 # {uuid4()}\n"})
    request = http("POST", f"/build?t={world.marker}/gone:1", context)

    def building() -> list[Any]:
        return list(
            world.engine.containers.list(
                filters={"ancestor": world.own_image, "network": "bridge"}, ignore_removed=True
            )
        )

    with socket.create_connection(filtered.address) as connection:
        connection.sendall(request)
        until(building, 20, "the build runs")
    until(lambda: not building(), 20, "the engine has ended the build")
    until(lambda: filtered.open_files() <= held, 10, "all connections are closed")


@pytest.fixture
def relay(world: World, tmp_path: Path) -> Iterator[CuttableRelay]:
    """A connection to the engine that can be cut."""
    with closing(CuttableRelay(str(tmp_path / "engine.sock"), world.socket)) as running:
        yield running


def test_a_restart_of_the_engine_is_survived(
    world: World, relay: CuttableRelay, tmp_path: Path
) -> None:
    follow = http("GET", f"/containers/{world.own}/logs?stdout=1&follow=1")
    settings = world.filter_settings(SOCKET=relay.path)
    with running_filter(tmp_path / "log", **settings) as service:

        def get(path: str) -> tuple[int, bytes]:
            return send(service.address, http("GET", path))

        assert get("/version")[0] == 200
        held = service.open_files()
        with socket.create_connection(service.address) as connection:
            connection.sendall(follow)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            relay.close()
            connection.settimeout(10)
            while connection.recv(1 << 16):
                pass
        status, reply = get("/version")
        assert (status, "the engine does not answer" in message(reply)) == (502, True)
        assert get(f"/containers/{world.own}/json")[0] == 502
        relay.start()
        assert get("/version")[0] == 200
        assert get(f"/containers/{world.own}/json")[0] == 200
        until(lambda: service.open_files() <= held, 10, "all connections are closed")


def test_many_clients(world: World, tmp_path: Path) -> None:
    ping = http("GET", "/_ping")
    settings = world.filter_settings()
    with running_filter(tmp_path / "log", **settings) as service, ExitStack() as stack:
        before = service.open_files()
        connect = partial(socket.create_connection, service.address)
        clients = [stack.enter_context(connect()) for _ in range(128)]
        until(lambda: service.open_files() >= before + 128, 5, "all clients are connected")
        assert send(service.address, ping)[0] == 503
        clients.pop().close()
        until(lambda: send(service.address, ping)[0] == 200, 5, "the filter accepts clients again")
