"""The filter before a real engine: the honest workflow, and attacks on what is not ours."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import docker.errors
import pytest
from docker.types import LogConfig

from tests.docker.attacks import CONTAINERS, CREATE, ENGINE, IMAGES
from tests.docker.attacks_build import BUILD
from tests.docker.attacks_http import PATHS, SMUGGLING
from tests.docker.filtering import BASE, Cuttable, Running, archive, ask, http, running
from tests.docker.world import Attack, World, container, own_labels
from tests.waiting import until

pytestmark = pytest.mark.docker

ATTACKS = (*CREATE, *CONTAINERS, *ENGINE, *IMAGES, *SMUGGLING, *PATHS, *BUILD)
MOST = 4


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """An engine with a victim in it."""
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    client = docker.DockerClient(f"unix://{path}", version="auto")
    name = f"mlops-test-{uuid4().hex[:8]}"
    made = World(client, path, name, f"secret-{uuid4().hex}")
    try:
        made.make()
        yield made
    finally:
        made.clear(everything=True)
        made.server.shutdown()


@pytest.fixture(scope="session")
def filtered(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The filter before it."""
    with running(tmp_path_factory.mktemp("filter") / "log", **settings_of(world)) as found:
        yield found


def settings_of(world: World, **changes: str) -> dict[str, str]:
    return {
        "PROJECT": world.marker,
        "NETWORK": world.network,
        "PREFIX": world.marker,
        "BASES": BASE,
        "SOCKET": world.socket,
        "MAX_CPUS": "1.5",
        "MAX_MEMORY": "256m",
        "MAX_CONTAINERS": str(MOST),
        **changes,
    }


@pytest.fixture
def client(filtered: Running) -> Iterator[Any]:
    """An honest client of it."""
    with closing(docker.DockerClient(f"tcp://127.0.0.1:{filtered.port}", version="auto")) as found:
        yield found


@pytest.fixture(autouse=True)
def clean(world: World) -> Iterator[None]:
    """Whatever a test made goes with it."""
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


def create(client: Any, world: World, number: int = 1, **changes: Any) -> Any:
    honest: dict[str, Any] = {
        "name": f"{world.marker}-model-wine-v1-{number}",
        "labels": {**own_labels(world), "mlops.model": "wine"},
        "user": "10001:10001",
        "network": world.network,
        "mem_limit": "64m",
        "memswap_limit": "64m",
        "nano_cpus": 500_000_000,
        "pids_limit": 64,
        "environment": {"A": "b=c"},
        "init": True,
        "read_only": True,
        "tmpfs": {"/tmp": "size=16m,mode=1777"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart_policy": {"Name": "unless-stopped"},
        "log_config": LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
    }
    return client.containers.create(f"{world.marker}/wine:1", **{**honest, **changes})


def test_the_whole_workflow(client: Any, world: World) -> None:
    assert client.ping()
    dockerfile = f"ARG BASE=x\nFROM ${{BASE}}\nCOPY model /model\nRUN test -f /model/a.txt\n{LINES}"
    options = {"buildargs": {"BASE": BASE}, "labels": {"mlops.model": "wine"}}
    image, said = build(client, world, "wine:1", dockerfile, network_mode="none", **options)
    assert any("Successfully tagged" in one.get("stream", "") for one in said)
    assert image.labels == {"mlops.model": "wine", "mlops.project": world.marker}
    again, said = build(client, world, "wine:1", dockerfile, network_mode="none", **options)
    assert again.id == image.id
    assert sum("Using cache" in one.get("stream", "") for one in said) >= 4

    one = create(client, world)
    one.start()
    one.reload()
    assert (one.status, one.attrs["Config"]["Image"]) == ("running", image.id)
    host = one.attrs["HostConfig"]
    assert (host["MemorySwap"], host["IpcMode"], host["CgroupnsMode"]) == (
        64 << 20,
        *["private"] * 2,
    )
    assert list(one.attrs["NetworkSettings"]["Networks"]) == [world.network]
    until(lambda: b"2\n" in one.logs(), 10, "it has said something")
    assert one.stats(stream=False)["memory_stats"]["limit"] == 64 << 20
    ours = client.containers.list(all=True, filters={"label": "mlops.model=wine"})
    assert [found.name for found in ours] == [one.name]
    assert [found.id for found in client.images.list(name=f"{world.marker}/wine")] == [image.id]
    assert client.images.get(BASE).id == world.image_id(BASE)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(f"{world.marker}/wine@sha256:{'0' * 64}")

    one.stop(timeout=1)
    assert one.wait()["StatusCode"] in {143, 137, 0}
    one.start()
    one.kill()
    one.remove(force=True, v=True)
    client.images.remove(f"{world.marker}/wine:1")
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(one.id)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(image.id)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_attack(attack: Attack, world: World, filtered: Running) -> None:
    before = world.state()
    status, said = ask(filtered.address, attack.request(world))
    if attack.served:
        assert status in {200, 204}
        world.clear()  # a build may have made something, of what was checked
    else:
        assert status in {400, 403, 404, 413}
        assert json.loads(said.partition(b"\r\n\r\n")[2])["message"]
    assert world.state() == before
    if attack.leak:
        assert attack.leak(world).encode() not in said
    assert ask(filtered.address, http("GET", "/_ping"))[0] == 200


BARE = [one for one in ATTACKS if one.bare]


@pytest.mark.parametrize("attack", BARE, ids=lambda one: one.name)
def test_the_attack_does_harm_without_the_filter(attack: Attack, world: World) -> None:
    before = world.state()
    try:
        _, said = ask(world.socket, attack.request(world))
        leaked = attack.leak is not None and attack.leak(world).encode() in said
        assert leaked or world.state() != before, said
    finally:
        world.clear()
        world.make()


# ---- What is checked against the engine's state.


def message(said: bytes) -> str:
    return str(json.loads(said.partition(b"\r\n\r\n")[2])["message"])


def test_containers_are_counted(world: World, client: Any) -> None:
    world.engine.images.get(world.own_image).tag(f"{world.marker}/wine", "1")

    def one(number: int) -> str:
        try:
            return str(create(client, world, number).id)
        except docker.errors.APIError as err:
            return str(err.explanation)

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(one, range(6)))
    denied = "docker filter: containers: 5 is denied; allowed: 4 at a time"
    assert made.count(denied) == 6 - (MOST - 1)  # one of ours is there
    assert len(client.containers.list(all=True)) == MOST


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
    found = world.image_id(tag)
    assert found not in [one.id for one in client.images.list(all=True)]
    for name in (tag, found, found[7:19]):
        with pytest.raises(docker.errors.APIError, match="is denied"):
            client.images.remove(name, force=True)
        with pytest.raises(docker.errors.APIError, match="is denied"):
            client.api.create_container_from_config(
                container(world, Image=name), f"{world.marker}-model-x"
            )
    assert world.image_id(tag) == found


def test_services_of_compose_are_never_ours(world: World, client: Any) -> None:
    labels = {**own_labels(world), "com.docker.compose.service": "postgres"}
    service = world.engine.containers.run(
        world.own_image, labels=labels, name=f"{world.marker}-postgres", detach=True
    )
    assert service.name not in [one.name for one in client.containers.list(all=True)]
    for do in (client.api.kill, client.api.inspect_container, client.api.logs):
        with pytest.raises(docker.errors.APIError, match="is denied"):
            do(service.id)
    service.reload()
    assert service.status == "running"


def test_what_a_killed_build_left_can_be_removed(world: World, client: Any) -> None:
    """It has the label of its image, and no name."""
    left = world.engine.containers.create(world.own_image)
    assert left.id in [one.id for one in client.containers.list(all=True)]
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


def test_one_name_of_two_is_removed_alone(world: World, client: Any) -> None:
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
    shown = (
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us "
        "/sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2>/dev/null || true"
    )
    _, said = build(client, world, "bounded:1", f"FROM {BASE}\nRUN {shown} # {uuid4()}\n")
    text = "".join(one.get("stream", "") for one in said)
    assert re.search(rf"^{256 << 20}$", text, re.MULTILINE), text
    assert re.search(r"^150000( 100000)?$", text, re.MULTILINE), text


def test_an_unfinished_context_builds_nothing(world: World, filtered: Running) -> None:
    before = world.state()
    context = archive({"Dockerfile": f"FROM {BASE}\nLABEL x={uuid4()}\n"})
    with socket.create_connection(filtered.address) as connection:
        connection.sendall(http("POST", f"/build?t={world.marker}/cut:1", context)[:-1400])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert world.state() == before


# ---- Streams, clients that go, an engine that goes.


def test_logs_and_build_output_stream(world: World, client: Any, filtered: Running) -> None:
    held = filtered.open_files()
    dockerfile = f"FROM {BASE}\nRUN echo first-line && sleep 2 && echo {uuid4()}\n{LINES}"
    context = io.BytesIO(archive({"Dockerfile": dockerfile}))
    said = client.api.build(
        fileobj=context, custom_context=True, tag=f"{world.marker}/wine:1", decode=True
    )
    next(one for one in said if one.get("stream") == "first-line\n")
    began = time.monotonic()
    assert "Successfully" in list(said)[-1]["stream"]
    assert time.monotonic() - began > 1.5

    one = create(client, world)
    one.start()
    lines = one.logs(stream=True, follow=True)
    assert [next(lines), next(lines)] == [b"0\n", b"1\n"]
    lines.close()
    client.close()
    until(lambda: filtered.open_files() <= held, 10, "no connection is left")


def test_a_build_ends_with_its_client(world: World, filtered: Running) -> None:
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
        until(building, 20, "it builds")
    until(lambda: not building(), 20, "the engine has given up")
    until(lambda: filtered.open_files() <= held, 10, "no connection is left")


@pytest.fixture
def cuttable(world: World, tmp_path: Path) -> Iterator[Cuttable]:
    """A way to the engine that can be cut."""
    with closing(Cuttable(str(tmp_path / "engine.sock"), world.socket)) as found:
        yield found


def test_a_restart_of_the_engine_is_survived(
    world: World, cuttable: Cuttable, tmp_path: Path
) -> None:
    follow = http("GET", f"/containers/{world.own}/logs?stdout=1&follow=1")
    with running(tmp_path / "log", **settings_of(world, SOCKET=cuttable.path)) as one:
        assert ask(one.address, http("GET", "/version"))[0] == 200
        held = one.open_files()
        with socket.create_connection(one.address) as connection:
            connection.sendall(follow)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            cuttable.close()
            connection.settimeout(10)
            while connection.recv(1 << 16):
                pass
        status, said = ask(one.address, http("GET", "/version"))
        assert (status, "the engine does not answer" in message(said)) == (502, True)
        status, said = ask(one.address, http("GET", f"/containers/{world.own}/json"))
        assert status == 502
        cuttable.start()
        assert ask(one.address, http("GET", "/version"))[0] == 200
        assert ask(one.address, http("GET", f"/containers/{world.own}/json"))[0] == 200
        until(lambda: one.open_files() <= held, 10, "no connection is left")


def test_many_clients(world: World, tmp_path: Path) -> None:
    with running(tmp_path / "log", **settings_of(world)) as one, ExitStack() as held:
        base = one.open_files()
        others = [held.enter_context(socket.create_connection(one.address)) for _ in range(128)]
        until(lambda: one.open_files() >= base + 128, 5, "all are there")
        assert ask(one.address, http("GET", "/_ping"))[0] == 503
        others.pop().close()
        until(lambda: ask(one.address, http("GET", "/_ping"))[0] == 200, 5, "there is room again")
