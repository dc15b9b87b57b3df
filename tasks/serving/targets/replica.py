"""One container of a model version: how it is started, and what the engine says of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import docker.errors
from docker.types import LogConfig

from tasks.base.errors import UnavailableError
from tasks.base.settings import settings
from tasks.pipeline.schema import Builder, Serving
from tasks.serving.server.contract import HOST
from tasks.serving.targets import engine
from tasks.serving.targets.deployment import Deployment
from tasks.serving.targets.engine import client
from tasks.stack.embedded import ports

if TYPE_CHECKING:
    from tasks.serving.targets.image import Image  # imports MLflow, which is slow: not for `status`

PORTS: dict[Builder, int] = {"mlops": 8080, "mlflow": 8000}
USER = "10001:10001"
_PIDS = 256
_LONGEST_HOST = 63
_PORT_TAKEN = ("port is already allocated", "address already in use")


@dataclass(frozen=True)
class Template:
    """How the containers of a version are to be started."""

    name: str
    version: int
    image: Image
    serving: Serving

    @cached_property
    def digest(self) -> str:
        """Differs between containers that were started differently."""
        parts = [self.image.id, settings().docker_network, self.serving.labels, self._limits()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def matching(self, containers: Iterable[Any]) -> list[Any]:
        """Those that were started in this way: as many as there are to be replicas."""
        matching = [
            container for container in containers if container.labels[engine.SERVING] == self.digest
        ]
        return matching[: self.serving.replicas]

    def create(self, number: int) -> Any:
        """Create and start a container.

        Raises:
            UnavailableError: Another program took its port first.
        """
        container = client().containers.create(
            self.image.tag,
            name=f"{settings().compose_project}-model-{self.name}-v{self.version}-{number}",
            labels=self._labels(number),
            user=USER,
            init=True,
            read_only=True,
            tmpfs={"/tmp": "size=64m,mode=1777"},  # noqa: S108 - the container's own
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            pids_limit=_PIDS,
            restart_policy={"Name": "unless-stopped"},
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            **self._limits(),
            **self._network(),
        )
        try:
            container.start()
        except docker.errors.APIError as err:
            engine.remove(container)
            if any(words in str(err.explanation) for words in _PORT_TAKEN):
                raise UnavailableError("The server's port is taken.", why=str(err)) from err
            raise
        container.reload()
        return container

    def _limits(self) -> dict[str, Any]:
        """No swap: a server that outgrows its memory is ended at once."""
        answers = {"MLOPS_ANSWERS": "probabilities"} if self.serving.probabilities else {}
        return {
            "mem_limit": self.serving.memory,
            "memswap_limit": self.serving.memory,
            "nano_cpus": round(self.serving.cpus * 1e9),
            "environment": self.serving.environment | answers,
        }

    def _network(self) -> dict[str, Any]:
        """Reached by its name in the models' network, or on a port of this machine."""
        if settings().docker_network:
            return {"network": settings().docker_network}
        # We choose the port: one that the engine chooses changes with each restart.
        return {"ports": {f"{PORTS[self.serving.builder]}/tcp": (HOST, ports.unused())}}

    def _labels(self, number: int) -> dict[str, str]:
        project = settings().compose_project
        return {
            **self.serving.labels,
            engine.PROJECT: project,
            engine.MODEL: self.name,
            engine.VERSION: str(self.version),
            engine.BUILDER: self.serving.builder,
            engine.REPLICA: str(number),
            engine.SERVING: self.digest,
            # With these, `docker compose ps` shows it and `down --remove-orphans` removes it.
            "com.docker.compose.project": project,
            "com.docker.compose.service": f"model-{self.name}",
            "com.docker.compose.container-number": str(number),
            "com.docker.compose.oneoff": "False",
            "com.docker.compose.config-hash": self.digest,
        }


def started(name: str | None = None, version: int | None = None) -> list[Any]:
    """The containers that a target started, sorted by version and number."""
    labels = {"model": name, "version": version}
    filters = engine.ours(**{key: value for key, value in labels.items() if value is not None})
    filters["label"].append(engine.REPLICA)
    return sorted(
        client().containers.list(all=True, filters=filters, ignore_removed=True),
        key=lambda server: (
            server.labels[engine.MODEL],
            int(server.labels[engine.VERSION]),
            number(server),
        ),
    )


def at(deployment: Deployment) -> dict[str, Any]:
    """The containers of a deployment, by their addresses."""
    containers = started(deployment.name, deployment.version)
    by_address = {address(container): container for container in containers}
    return {key: by_address[key] for key in deployment.addresses if key in by_address}


def deployment_of(containers: list[Any]) -> Deployment:
    """The servers in these containers of one version."""
    labels = containers[0].labels
    states = {container.status for container in containers}
    return Deployment(
        labels[engine.MODEL],
        int(labels[engine.VERSION]),
        tuple(map(address, containers)),
        "running" if states == {"running"} else "stopped" if "exited" in states else "starting",
        labels[engine.BUILDER],
    )


def revive(container: Any) -> bool:
    """Whether the container runs, started again if necessary; removes it if it cannot start."""
    if container.status == "restarting":
        return True
    if container.status == "running":
        began = datetime.fromisoformat(container.attrs["State"]["StartedAt"])
        age_s = (datetime.now(UTC) - began).total_seconds()
        if not deployment_of([container]).is_stuck(age_s):
            return True
        engine.kill(container)  # it would ignore SIGTERM
    try:
        container.start()
    except docker.errors.APIError:  # its port is taken, or its network was created again
        engine.remove(container)
        return False
    container.reload()
    return True


def address(container: Any) -> str:
    """Where the server listens: the same for as long as the container exists."""
    bindings = container.attrs["HostConfig"]["PortBindings"] or {}
    for published in bindings.values():
        return f"{HOST}:{published[0]['HostPort']}"
    # Names that are too long for DNS do not resolve; ids always do.
    host = container.name if len(container.name) <= _LONGEST_HOST else container.id[:12]
    return f"{host}:{PORTS[container.labels[engine.BUILDER]]}"


def number(container: Any) -> int:
    """Its number among the containers of the version."""
    return int(container.labels[engine.REPLICA])


def memory(container: Any) -> int:
    """Bytes as `docker stats` shows them: without file pages that the kernel may drop."""
    used = container.stats(stream=False)["memory_stats"]
    parts = used.get("stats", {})
    cached = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    return max(0, int(used.get("usage", 0)) - int(cached))
