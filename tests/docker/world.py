"""An engine that holds a container of ours and a foreign victim, and attacks on the victim."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import docker
import docker.errors

from tasks.serving import engine
from tests.docker.filtering import BASE, archive, http, send
from tests.waiting import until

SLEEP = 'CMD ["python3", "-u", "-c", "import os, time; print(os.environ); time.sleep(9999)"]\n'
MAX_CONTAINERS = 4


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.hits += 1  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"FROM {BASE}\nLABEL fetched=1\n".encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@dataclass
class World:
    """Our container and image, and a victim's; `marker` is in the name of everything.

    Without an engine (None), only names and the URL can be used.
    """

    engine: Any
    socket: str
    marker: str
    secret: str
    server: ThreadingHTTPServer = field(
        default_factory=lambda: ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    )
    images: dict[str, str] = field(default_factory=dict)
    """The images that `make` has built: id by tag."""

    def __post_init__(self) -> None:
        """Serve on the host's loopback, like services that trust whoever reaches them."""
        self.server.hits = 0  # type: ignore[attr-defined]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    @property
    def network(self) -> str:
        """The models' network."""
        return f"{self.marker}-models"

    @property
    def other(self) -> str:
        """A network that models must not join."""
        return f"{self.marker}-other"

    @property
    def other_id(self) -> str:
        """The id of that network."""
        return str(self.engine.networks.list(names=[f"^{self.other}$"])[0].id)

    @property
    def url(self) -> str:
        """A service that only this machine reaches."""
        return f"http://127.0.0.1:{self.server.server_port}/"

    @property
    def victim(self) -> str:
        """A container that is not ours."""
        return f"{self.marker}-victim"

    @property
    def own(self) -> str:
        """Our container."""
        return f"{self.marker}-model-own"

    @property
    def foreign_image(self) -> str:
        """The victim's image."""
        return f"{self.marker}-foreign/app:1"

    @property
    def own_image(self) -> str:
        """Our image."""
        return f"{self.marker}/own:1"

    def id_of(self, container: str) -> str:
        """The full id of a container."""
        return str(self.engine.containers.get(container).id)

    def image_id(self, name: str) -> str:
        """The full id of an image, with its algorithm."""
        return str(self.engine.images.get(name).id)

    def filter_settings(self, **changes: str) -> dict[str, str]:
        """The settings of a filter in front of this engine."""
        return {
            "PROJECT": self.marker,
            "NETWORK": self.network,
            "PREFIX": self.marker,
            "BASES": BASE,
            "SOCKET": self.socket,
            "MAX_CPUS": "1.5",
            "MAX_MEMORY": "256m",
            "MAX_CONTAINERS": str(MAX_CONTAINERS),
            **changes,
        }

    def build(self, tag: str, dockerfile: str, **labels: str) -> None:
        """Build an image without the filter."""
        context = io.BytesIO(archive({"Dockerfile": dockerfile}))
        self.engine.images.build(
            fileobj=context, custom_context=True, tag=tag, labels=labels, rm=True, forcerm=True
        )

    def make(self) -> None:
        """Make whatever is missing."""
        networks = {network["Name"] for network in self.engine.api.networks()}
        for name in {self.network, self.other} - networks:
            self.engine.networks.create(name, internal=True)
        ours = {"mlops.project": self.marker}
        self._make_image(self.foreign_image, f"ENV SECRET={self.secret}\n")
        self._make_image(self.own_image, "", **ours)
        self.engine.images.get(self.foreign_image).tag(f"{self.marker}-bare")
        self._start(self.victim, self.foreign_image, {}, self.other)
        self._start(self.own, self.own_image, own_labels(self), self.network, mem_limit="64m")

    def _make_image(self, tag: str, instructions: str, **labels: str) -> None:
        images = self.engine.api.images()
        ids = {name: image["Id"] for image in images for name in image["RepoTags"] or ()}
        if tag not in self.images or ids.get(tag) != self.images[tag]:
            self.build(tag, f"FROM {BASE}\n{instructions}{SLEEP}", **labels)
            self.images[tag] = self.image_id(tag)

    def _start(
        self, name: str, image: str, labels: dict[str, str], network: str, **options: Any
    ) -> None:
        with suppress(docker.errors.NotFound):
            existing = self.engine.containers.get(name)
            if existing.status == "running":
                return
            existing.remove(force=True)
        started = self.engine.containers.run(
            image, name=name, labels=labels, network=network, detach=True, **options
        )
        until(started.logs, 60, f"{name} has logged its environment")

    def create(self, request: bytes) -> dict[str, Any]:
        """Create a container without the filter; returns what an inspection shows of its kind."""
        status, reply = send(self.socket, request)
        assert status == 201, reply
        created = json.loads(reply.partition(b"\r\n\r\n")[2])["Id"]
        details = self.engine.api.inspect_container(created)
        config = {key: value for key, value in details["Config"].items() if value != created[:12]}
        networks = {
            name: [alias for alias in network["Aliases"] or () if alias != created[:12]]
            for name, network in details["NetworkSettings"]["Networks"].items()
        }
        return {"Config": config, "HostConfig": details["HostConfig"], "Networks": networks}

    def state(self) -> dict[str, Any]:
        """All that an attack could change."""
        state: dict[str, Any] = {"hits": self.server.hits}  # type: ignore[attr-defined]
        for summary in self.engine.api.containers(all=True):
            if self.marker in json.dumps(summary):
                with suppress(docker.errors.NotFound):  # of a build: the engine removes it
                    state[summary["Id"]] = self._container_state(summary["Id"])
        for image in self.engine.api.images(all=True):
            if self.marker in json.dumps(image):
                state[image["Id"]] = sorted(image["RepoTags"] or [])
        volumes = self.engine.api.volumes()["Volumes"] or []
        for item in (*self.engine.api.networks(), *volumes):
            if self.marker in item["Name"]:
                state[f"{item['Name']} {item.get('Id')}"] = "exists"
        return state

    def _container_state(self, container: str) -> tuple[Any, ...]:
        details = self.engine.api.inspect_container(container)
        state, host = details["State"], details["HostConfig"]
        return (
            *(details["Name"], state["Status"], state["StartedAt"], details["ExecIDs"]),
            *(host["Memory"], host["PidsLimit"], sorted(details["NetworkSettings"]["Networks"])),
        )

    def clear(self, *, everything: bool = False) -> None:
        """Remove what attacks have made, or everything."""
        kept = set() if everything else {self.victim, self.own}
        for summary in self.engine.api.containers(all=True):
            names = {name[1:] for name in summary["Names"] or ()}  # None while it is being removed
            if self.marker in json.dumps(summary) and not names & kept:
                with suppress(docker.errors.NotFound):
                    engine.remove(self.engine.containers.get(summary["Id"]))
        kept = {self.foreign_image, self.own_image, f"{self.marker}-bare:latest"}
        images = set() if everything else kept
        for image in self.engine.api.images():
            for tag in image["RepoTags"] or []:
                if self.marker in tag and tag not in images:
                    self.engine.api.remove_image(tag, force=True)
        for volume in self.engine.api.volumes()["Volumes"] or []:
            if volume["Name"].startswith(self.marker):
                self.engine.api.remove_volume(volume["Name"])
        networks = set() if everything else {self.network, self.other}
        for network in self.engine.api.networks():
            if network["Name"].startswith(self.marker) and network["Name"] not in networks:
                self.engine.api.remove_network(network["Id"])


@contextmanager
def world_without_engine(socket: str = "") -> Iterator[World]:
    """Names that belong to no engine."""
    name = f"mlops-test-{uuid4().hex[:8]}"
    with closing(World(None, socket, name, f"secret-{uuid4().hex}")) as world:
        yield world


@contextmanager
def world_with_engine() -> Iterator[World]:
    """An engine with a victim in it; everything is removed at the end."""
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    with world_without_engine(path) as world:
        world.engine = docker.DockerClient(f"unix://{path}", version="auto")
        try:
            world.make()
            yield world
        finally:
            world.clear(everything=True)


def own_labels(world: World) -> dict[str, str]:
    """The labels of our container."""
    return {
        "mlops.project": world.marker,
        "com.docker.compose.project": world.marker,
        "com.docker.compose.service": "model-own",
    }


def container(world: World, **changes: Any) -> dict[str, Any]:
    """The body of an honest containers/create with changes; `HostConfig` is merged."""
    host = {
        "NetworkMode": world.network,
        "Memory": 64 << 20,
        "NanoCpus": 500_000_000,
        "PidsLimit": 64,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        **changes.pop("HostConfig", {}),
    }
    body = {"Image": world.own_image, "User": "10001:10001", "Labels": own_labels(world)}
    return {**body, "HostConfig": host, **changes}


Make = Callable[[World], bytes]


@dataclass(frozen=True)
class Attack:
    """A request, how its harm shows, and how the filter denies it."""

    name: str
    request: Make
    leak: Callable[[World], str] | None = None
    """What the answer must not contain."""
    real: bool = True
    """Whether the engine alone carries it out, and harms nobody outside the tests."""
    served: bool = False
    """Whether the filter may serve it once it is made harmless."""
    denial: str = ""
    """How the filter's message starts if it denies the attack without asking the engine."""


def call(
    method: str, path: str, body: bytes | str | Mapping[str, Any] = b"", **headers: str
) -> Make:
    """A request whose path names things of the world: {victim}, {own}, {image_id} …"""
    return lambda world: http(
        method,
        path.format(
            victim=world.victim,
            own=world.own,
            marker=world.marker,
            id=world.id_of(world.victim) if "{id" in path else "",
            short=world.id_of(world.victim)[:12] if "{short" in path else "",
            image=world.foreign_image,
            image_id=world.image_id(world.foreign_image) if "{image_id" in path else "",
            url=world.url,
        ),
        body,
        **headers,
    )
