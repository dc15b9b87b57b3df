"""Which version of a model a compose stack serves, and in which containers."""

from __future__ import annotations

from tests.chain import endpoint
from tests.compose.conftest import Project, docker


def served(project: Project, name: str) -> int | None:
    """The version that answers."""
    return endpoint.served(name, project.url())


def models(project: Project, name: str) -> list[str]:
    """Names of the model's containers, the project's killed builds included."""
    ids = docker(
        "ps", "-a", "--filter", f"label=mlops.project={project.name}",
        "--format", '{{.Names}} {{.Label "mlops.model"}}',
    )  # fmt: skip
    listed = [line.split(" ") for line in ids.splitlines()]
    return sorted(container for container, model in listed if model in ("", name))
