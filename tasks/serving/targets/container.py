"""Servers as containers, each from the image of its version.

A container says in its labels how it was started. When that changes, or its image does, others are
started beside it under the next free numbers, so that no request is lost over a changed limit.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import docker.errors
from docker.types import LogConfig

from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import settings
from tasks.pipeline.schema import Builder, Serving
from tasks.serving import model_files
from tasks.serving.server.contract import GRACE_S, HOST
from tasks.serving.targets import engine
from tasks.serving.targets.deployment import Deployment, State
from tasks.serving.targets.engine import answering, client
from tasks.stack.embedded import ports

if TYPE_CHECKING:
    from tasks.serving.targets.image import (
        Image,  # with MLflow, which is slow to import: not for `status`
    )

PORTS: dict[Builder, int] = {"mlops": 8080, "mlflow": 8000}
USER = "10001:10001"
_PIDS = 256
_POLL_S = 0.2
_YOUNG_S = 30.0
"""A server that started so recently may still be loading its model."""
_PATIENCE = 3
"""Tries of a few seconds each before a silent server counts as stuck: a busy one is slow."""
_LONGEST_HOST = 63
_PORT_TAKEN = ("port is already allocated", "address already in use")


class ContainerTarget:
    """Runs each version's servers as containers; see `Target`."""

    @answering()
    def build(self, name: str, version: int, serving: Serving) -> dict[str, str]:
        """Build the version's image, of the server and the requirements as they are now."""
        from tasks.serving.targets import image

        built = image.build(name, version, serving.builder)
        return {"image": built.tag, "image_id": built.id, "image_mb": f"{built.size / 1e6:.0f}"}

    @answering()
    def start(
        self,
        name: str,
        version: int,
        serving: Serving = Serving(),  # noqa: B008 - frozen
    ) -> Deployment:
        """The version's servers: running ones, and new ones up to the number of replicas."""
        from tasks.serving.targets import image

        made = image.find(name, version, serving.builder)
        wanted = _Wanted(made or image.build(name, version, serving.builder), serving)
        there = _containers(name, version)
        taken = {_number(one) for one in there}
        ran = {one.id for one in there if one.status == "running"}
        free = (number for number in count(1) if number not in taken)
        alike = [one for one in there if one.labels[engine.SERVING] == wanted.digest]
        good = [one for one in alike if _revive(one)][: serving.replicas]
        while len(good) < serving.replicas:
            good.append(_create(name, version, next(free), wanted))
        state: State = "running" if {one.id for one in good} <= ran else "starting"
        return replace(_deployment(good), state=state)

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until all servers answer as this version."""
        deadline = time.monotonic() + timeout
        first = _restarts(deployment)
        while not deployment.answers():
            now = _restarts(deployment)
            if now != first or None in now:
                raise self._failure(deployment, "ended before it answered")
            if time.monotonic() > deadline:
                raise self._failure(deployment, f"does not answer after {timeout:.0f} s")
            time.sleep(_POLL_S)

    @answering()
    def memory(self, deployment: Deployment) -> int:
        """Bytes that the largest of the servers uses now."""
        return max((_memory(one) for one in _at(deployment)), default=0)

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, `drain_timeout` seconds at most, and end the servers."""
        deployment.drain(drain_timeout, lambda: None not in _restarts(deployment))
        with answering():
            for one in _at(deployment):
                with suppress(docker.errors.NotFound):
                    one.stop(timeout=GRACE_S + 5)
                engine.remove(one)
            if not _containers(deployment.name, deployment.version):
                model_files.forget(deployment.name, deployment.version)

    @answering()
    def list(self, name: str | None = None) -> list[Deployment]:
        """Each server of one model or of all, whatever its state, oldest version first."""
        return [_deployment([one]) for one in _containers(name)]

    @answering()
    def clean(self, name: str, keep: set[int]) -> None:
        """Remove images of the model's other versions, and what killed builds left."""
        from tasks.serving.targets import image

        image.clean(name, keep)

    @answering()
    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The end of what the version's newest server wrote."""
        there = sorted(_containers(name, version), key=lambda one: str(one.attrs["Created"]))
        return str(there[-1].logs(tail=lines).decode(errors="replace")) if there else ""

    def _failure(self, deployment: Deployment, what: str) -> RunFailedError:
        return RunFailedError(
            f"The server of {deployment.name} version {deployment.version} {what}.",
            why=self.logs_tail(deployment.name, deployment.version),
            # The kernel kills without a word, and the engine forgets it when it starts anew.
            fix="If nothing above says why, it may need more than 'serving.memory'.",
        )


class _Wanted:
    """How the containers of a version are to be started."""

    def __init__(self, made: Image, serving: Serving) -> None:
        self.image, self.serving = made, serving
        self.digest = hashlib.sha256(
            json.dumps(
                [made.id, settings().docker_network, serving.labels, self._asked()], sort_keys=True
            ).encode()
        ).hexdigest()[:16]

    def options(self) -> dict[str, Any]:
        """What the engine is told. No swap: a server that outgrows its memory is ended at once."""
        return {
            **self._asked(),
            "user": USER,
            "init": True,
            "read_only": True,
            "tmpfs": {"/tmp": "size=64m,mode=1777"},  # noqa: S108 - the container's own
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "pids_limit": _PIDS,
            "restart_policy": {"Name": "unless-stopped"},
            "log_config": LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
        }

    def reached(self) -> dict[str, Any]:
        """By its name in the models' network, or on a port of this machine."""
        if settings().docker_network:
            return {"network": settings().docker_network}
        # A port of our choice, since one of the engine's choice changes with each restart.
        return {"ports": {f"{PORTS[self.serving.builder]}/tcp": (HOST, ports.unused())}}

    def labels(self, name: str, version: int, number: int) -> dict[str, str]:
        """The labels of one container."""
        project = settings().compose_project
        return {
            **self.serving.labels,
            engine.PROJECT: project,
            engine.MODEL: name,
            engine.VERSION: str(version),
            engine.BUILDER: self.serving.builder,
            engine.REPLICA: str(number),
            engine.SERVING: self.digest,
            # By these, `docker compose ps` shows it and `down --remove-orphans` removes it.
            "com.docker.compose.project": project,
            "com.docker.compose.service": f"model-{name}",
            "com.docker.compose.container-number": str(number),
            "com.docker.compose.oneoff": "False",
            "com.docker.compose.config-hash": self.digest,
        }

    def _asked(self) -> dict[str, Any]:
        return {
            "mem_limit": self.serving.memory,
            "memswap_limit": self.serving.memory,
            "nano_cpus": round(self.serving.cpus * 1e9),
            "environment": self.serving.environment | self._answers(),
        }

    def _answers(self) -> dict[str, str]:
        return {"MLOPS_ANSWERS": "probabilities"} if self.serving.probabilities else {}


def _containers(name: str | None = None, version: int | None = None) -> list[Any]:
    """Those that a target started, in the order of their versions and numbers."""
    wanted = {"model": name, "version": version}
    filters = engine.ours(**{key: value for key, value in wanted.items() if value is not None})
    filters["label"].append(engine.REPLICA)
    return sorted(
        client().containers.list(all=True, filters=filters, ignore_removed=True),
        key=lambda one: (one.labels[engine.MODEL], int(one.labels[engine.VERSION]), _number(one)),
    )


def _at(deployment: Deployment) -> list[Any]:
    there = _containers(deployment.name, deployment.version)
    return [one for one in there if _address(one) in deployment.addresses]


@answering()
def _restarts(deployment: Deployment) -> list[int | None]:
    """How often the engine has started each server again; None: it does not run."""
    there = {_address(one): one for one in _at(deployment)}
    running = {
        address: one.attrs["RestartCount"]
        for address, one in there.items()
        if one.status in {"running", "restarting"}
    }
    return [running.get(address) for address in deployment.addresses]


def _create(name: str, version: int, number: int, wanted: _Wanted) -> Any:
    made = client().containers.create(
        wanted.image.tag,
        name=f"{settings().compose_project}-model-{name}-v{version}-{number}",
        labels=wanted.labels(name, version, number),
        **wanted.options(),
        **wanted.reached(),
    )
    try:
        made.start()
    except docker.errors.APIError as err:
        engine.remove(made)
        if any(words in str(err.explanation) for words in _PORT_TAKEN):
            raise UnavailableError("The server's port is taken.", why=str(err)) from err
        raise
    made.reload()
    return made


def _revive(container: Any) -> bool:
    """Whether the container runs, if need be started again; one that cannot be is removed."""
    if container.status == "restarting":
        return True
    if container.status == "running":
        if not _stuck(container):
            return True
        engine.kill(container)  # it would not heed SIGTERM
    try:
        container.start()
    except docker.errors.APIError:  # its port is taken, or its network was made again
        engine.remove(container)
        return False
    container.reload()
    return True


def _stuck(container: Any) -> bool:
    """Whether a server that should be up does not answer."""
    began = datetime.fromisoformat(container.attrs["State"]["StartedAt"])
    if (datetime.now(UTC) - began).total_seconds() < _YOUNG_S:
        return False
    server = _deployment([container])
    return not any(server.answers() for _ in range(_PATIENCE))


def _deployment(containers: list[Any]) -> Deployment:
    """The servers in these containers of one version."""
    first = containers[0]
    states = {one.status for one in containers}
    return Deployment(
        first.labels[engine.MODEL],
        int(first.labels[engine.VERSION]),
        tuple(map(_address, containers)),
        "running" if states == {"running"} else "stopped" if "exited" in states else "starting",
        first.labels[engine.BUILDER],
    )


def _address(container: Any) -> str:
    """Where the server listens: the same for as long as the container exists."""
    bindings = container.attrs["HostConfig"]["PortBindings"] or {}
    for published in bindings.values():
        return f"{HOST}:{published[0]['HostPort']}"
    # Names that are too long for DNS do not resolve; ids always do.
    host = container.name if len(container.name) <= _LONGEST_HOST else container.id[:12]
    return f"{host}:{PORTS[container.labels[engine.BUILDER]]}"


def _number(container: Any) -> int:
    return int(container.labels[engine.REPLICA])


def _memory(container: Any) -> int:
    """What the engine's `docker stats` shows: without files that the kernel may drop."""
    used = container.stats(stream=False)["memory_stats"]
    parts = used.get("stats", {})
    cached = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    return max(0, int(used.get("usage", 0)) - int(cached))
