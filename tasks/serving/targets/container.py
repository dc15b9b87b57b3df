"""Servers as containers, each from the image of its version.

The labels of a container say how it was started. When that changes, or its image does, new ones are
started beside it under the next free numbers, so that a changed limit loses no request.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import count

import docker.errors

from tasks.base.errors import RunFailedError
from tasks.pipeline.schema import Serving
from tasks.serving import model_files
from tasks.serving.server.contract import GRACE_S
from tasks.serving.targets import engine, replica
from tasks.serving.targets.deployment import Comparison, Deployment
from tasks.serving.targets.engine import answering
from tasks.serving.targets.replica import Template


class ContainerTarget:
    """Runs each version's servers as containers; see `Target`."""

    @answering()
    def build(self, name: str, version: int, serving: Serving) -> dict[str, str]:
        """Build the version's image, with the current server and requirements."""
        from tasks.serving.targets import image

        built = image.build(name, version, serving.builder)
        return {"image": built.tag, "image_id": built.id, "image_mb": f"{built.size / 1e6:.0f}"}

    @answering()
    def compare(self, name: str, version: int, serving: Serving) -> Comparison:
        """Compare the version's containers with what `start` would make of them."""
        from tasks.serving.targets import image

        containers, built = (
            replica.started(name, version),
            image.find(name, version, serving.builder),
        )
        matching = Template(name, version, built, serving).matching(containers) if built else []
        runs = [container for container in matching if container.status == "running"]
        return Comparison(
            replica.deployment_of(runs) if len(runs) == serving.replicas else None,
            frozenset(replica.address(other) for other in containers if other not in matching),
        )

    @answering()
    def start(self, name: str, version: int, serving: Serving) -> Deployment:
        """The version's servers: running ones, and new ones up to the number of replicas."""
        from tasks.serving.targets import image

        built = image.find(name, version, serving.builder)
        template = Template(
            name, version, built or image.build(name, version, serving.builder), serving
        )
        containers = replica.started(name, version)
        taken = {replica.number(container) for container in containers}
        free = (number for number in count(1) if number not in taken)
        ran = {container.id for container in containers if container.status == "running"}
        servers = list(filter(replica.revive, template.matching(containers)))
        while len(servers) < serving.replicas:
            servers.append(template.create(next(free)))
        adopted = {container.id for container in servers} <= ran
        return replace(replica.deployment_of(servers), state="running" if adopted else "starting")

    def wait_ready(self, deployment: Deployment, timeout: float) -> None:
        """Wait until all servers answer as this version."""
        first = _restarts(deployment)

        def ended() -> bool:
            restarts = _restarts(deployment)
            return restarts != first or None in restarts

        if problem := deployment.wait_for_answers(timeout, ended):
            raise RunFailedError(
                f"The server of {deployment.name} version {deployment.version} {problem}.",
                why=self.logs_tail(deployment.name, deployment.version),
                # The kernel kills silently, and the engine forgets it when it restarts the server.
                fix="If the log above shows no reason, it may need more than 'serving.memory'.",
            )

    @answering()
    def memory(self, deployment: Deployment) -> int:
        """Bytes that the largest of the servers uses at the moment."""
        return max(map(replica.memory, replica.at(deployment).values()), default=0)

    def stop(self, deployment: Deployment, drain_timeout: float) -> None:
        """Let requests in flight finish, at most `drain_timeout` seconds, and end the servers."""
        deployment.drain(drain_timeout, lambda: None not in _restarts(deployment))
        with answering():
            for container in replica.at(deployment).values():
                with suppress(docker.errors.NotFound):
                    container.stop(timeout=GRACE_S + 5)
                engine.remove(container)
            if not replica.started(deployment.name, deployment.version):
                model_files.forget(deployment.name, deployment.version)

    @answering()
    def list(self, name: str | None = None) -> list[Deployment]:
        """Each server of one model or of all, whatever its state, oldest version first."""
        return [replica.deployment_of([container]) for container in replica.started(name)]

    @answering()
    def stored(self, name: str) -> frozenset[int | None]:
        """Versions of the model that have an image; None: leftovers of builds."""
        from tasks.serving.targets import garbage

        return garbage.stored(name)

    @answering()
    def clean(self, name: str, keep: frozenset[int]) -> None:
        """Remove the images of the model's other versions, and leftovers of builds."""
        from tasks.serving.targets import garbage

        garbage.collect(name, keep)

    @answering()
    def logs_tail(self, name: str, version: int, lines: int = 50) -> str:
        """The last lines of the log of the version's newest server."""
        containers = replica.started(name, version)
        newest = max(containers, key=lambda server: str(server.attrs["Created"]), default=None)
        return str(newest.logs(tail=lines).decode(errors="replace")) if newest else ""


@answering()
def _restarts(deployment: Deployment) -> list[int | None]:
    """How often the engine has restarted each server; None for one that does not run."""
    running = {
        address: container.attrs["RestartCount"]
        for address, container in replica.at(deployment).items()
        if container.status in {"running", "restarting"}
    }
    return [running.get(address) for address in deployment.addresses]
