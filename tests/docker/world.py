"""An engine with something of ours and a victim, for the filter's tests."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import docker.errors

from tasks.serving.targets import engine
from tests.docker.filtering import BASE, archive

SLEEP = 'CMD ["python3", "-u", "-c", "import os, time; print(os.environ); time.sleep(9999)"]\n'


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.hits += 1  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"FROM {BASE}\nLABEL fetched=1\n".encode())

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@dataclass
class World:
    """An engine with something of ours and a victim; everything in it has `marker` in its name."""

    engine: Any
    socket: str
    marker: str
    secret: str
    server: ThreadingHTTPServer = field(
        default_factory=lambda: ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    )

    def __post_init__(self) -> None:
        """Serve on a port of the host alone, as services do that trust whoever reaches them."""
        self.server.hits = 0  # type: ignore[attr-defined]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def network(self) -> str:
        """The models' network."""
        return f"{self.marker}-models"

    @property
    def other(self) -> str:
        """A network that is not the models'."""
        return f"{self.marker}-other"

    @property
    def other_id(self) -> str:
        """Its id."""
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
        """A container of ours."""
        return f"{self.marker}-model-own"

    @property
    def foreign_image(self) -> str:
        """The victim's image."""
        return f"{self.marker}-foreign/app:1"

    @property
    def own_image(self) -> str:
        """An image of ours."""
        return f"{self.marker}/own:1"

    def id_of(self, container: str) -> str:
        """The full id."""
        return str(self.engine.containers.get(container).id)

    def image_id(self, name: str) -> str:
        """The full id, with its algorithm."""
        return str(self.engine.images.get(name).id)

    def build(self, tag: str, dockerfile: str, **labels: str) -> None:
        """Build an image past the filter."""
        context = io.BytesIO(archive({"Dockerfile": dockerfile}))
        self.engine.images.build(
            fileobj=context, custom_context=True, tag=tag, labels=labels, rm=True, forcerm=True
        )

    def make(self) -> None:
        """Make whatever is not there."""
        ours = {"mlops.project": self.marker}
        for name in (self.network, self.other):
            if not self.engine.networks.list(names=[f"^{name}$"]):
                self.engine.networks.create(name, internal=True)
        texts = {
            self.foreign_image: (f"ENV SECRET={self.secret}\n", {}),
            self.own_image: ("", ours),
        }
        for tag, (text, labels) in texts.items():
            self.build(tag, f"FROM {BASE}\n{text}{SLEEP}", **labels)
        self.engine.images.get(self.foreign_image).tag(f"{self.marker}-bare")
        self._start(self.victim, self.foreign_image, {}, self.other)
        self._start(self.own, self.own_image, own_labels(self), self.network, mem_limit="64m")

    def _start(
        self, name: str, image: str, labels: dict[str, str], network: str, **more: Any
    ) -> None:
        with suppress(docker.errors.NotFound):
            found = self.engine.containers.get(name)
            if found.status == "running":
                return
            found.remove(force=True)
        self.engine.containers.run(
            image, name=name, labels=labels, network=network, detach=True, **more
        )

    def state(self) -> dict[str, Any]:
        """All that an attack could change."""
        found: dict[str, Any] = {"hits": self.server.hits}  # type: ignore[attr-defined]
        for one in self.engine.api.containers(all=True):
            if self.marker in json.dumps(one):
                with suppress(docker.errors.NotFound):  # a build's, which the engine removes
                    found[one["Id"]] = self._state_of(one["Id"])
        for one in self.engine.api.images(all=True):
            if self.marker in json.dumps(one):
                found[one["Id"]] = sorted(one["RepoTags"] or [])
        for one in (*self.engine.api.networks(), *(self.engine.api.volumes()["Volumes"] or [])):
            if self.marker in one["Name"]:
                found[f"{one['Name']} {one.get('Id')}"] = "there"
        return found

    def _state_of(self, container: str) -> tuple[Any, ...]:
        seen = self.engine.api.inspect_container(container)
        state, host = seen["State"], seen["HostConfig"]
        return (
            *(seen["Name"], state["Status"], state["StartedAt"], seen["ExecIDs"]),
            *(host["Memory"], host["PidsLimit"], sorted(seen["NetworkSettings"]["Networks"])),
        )

    def clear(self, *, everything: bool = False) -> None:
        """Remove what attacks have made, or everything."""
        keep = set() if everything else {self.victim, self.own}
        for one in self.engine.api.containers(all=True):
            names = {name[1:] for name in one["Names"] or ()}  # none while it is being removed
            if self.marker in json.dumps(one) and not names & keep:
                with suppress(docker.errors.NotFound):
                    engine.remove(self.engine.containers.get(one["Id"]))
        kept = {self.foreign_image, self.own_image, f"{self.marker}-bare:latest"}
        images = set() if everything else kept
        for one in self.engine.api.images():
            for tag in one["RepoTags"] or []:
                if self.marker in tag and tag not in images:
                    self.engine.api.remove_image(tag, force=True)
        for one in self.engine.api.volumes()["Volumes"] or []:
            if one["Name"].startswith(self.marker):
                self.engine.api.remove_volume(one["Name"])
        networks = set() if everything else {self.network, self.other}
        for one in self.engine.api.networks():
            if one["Name"].startswith(self.marker) and one["Name"] not in networks:
                self.engine.api.remove_network(one["Id"])


def own_labels(world: World) -> dict[str, str]:
    """The labels of a container of ours."""
    return {
        "mlops.project": world.marker,
        "com.docker.compose.project": world.marker,
        "com.docker.compose.service": "model-own",
    }


def container(world: World, **changes: Any) -> dict[str, Any]:
    """The body of an honest containers/create, with changes, those of HostConfig put into it."""
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
    """A request, and how its harm shows."""

    name: str
    request: Make
    leak: Callable[[World], str] | None = None
    """What must not be read in the answer."""
    bare: bool = True
    """Whether the engine by itself would do it, and do nobody else harm."""
    served: bool = False
    """Whether the filter may serve it, once made harmless."""
