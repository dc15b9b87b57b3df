"""The Docker Engine: its client, its errors in our words, and the labels that mark what is ours.

We store nothing elsewhere: the labels of images and containers say what runs, which version it is
and what it was built from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import docker.errors
import requests
from docker.client import DockerClient

from tasks.base.errors import UnavailableError, UserError
from tasks.base.settings import settings

PROJECT = "mlops.project"
"""On everything of ours, including what a killed build leaves behind."""
KIND = "mlops.kind"
"""On an image: `requirements` or `model`."""
REQUIREMENTS = "mlops.requirements"
"""On an image: the digest of its requirement layer."""
INPUTS = "mlops.inputs"
"""On a model's image: the digest of everything that it was built from."""
SOURCE = "mlops.source"
"""On a model's image: the registered version's URI, since a deleted version frees its number."""
MODEL, VERSION, BUILDER = "mlops.model", "mlops.version", "mlops.builder"
"""On a model's image and on its containers."""
REPLICA, SERVING = "mlops.replica", "mlops.serving"
"""On a container that a target started: its number, and the digest of how it was started."""

IMAGES = "images"
"""Name of the lock for building and removing images: a layer has no user until a build ends."""
TIMEOUT_S = 60
BUILD_TIMEOUT_S = 1800
"""How long the engine may be silent: installing TensorFlow prints nothing for minutes."""


@lru_cache(maxsize=1)
def client() -> Any:
    """The engine's client of this process."""
    return DockerClient(settings().docker_host, version="auto", timeout=TIMEOUT_S)


@contextmanager
def answering() -> Iterator[None]:
    """Turns the engine's errors into ours.

    Raises:
        UserError: The engine, or the filter in front of it, refuses the request.
        UnavailableError: It does not answer, or failed.
    """
    try:
        yield
    except docker.errors.APIError as err:
        why = str(err.explanation or err)
        if err.is_client_error():
            raise UserError("The Docker Engine refused the request.", why=why) from err
        raise UnavailableError("The Docker Engine failed.", why=why) from err
    except (docker.errors.DockerException, requests.RequestException) as err:
        raise UnavailableError(
            "The Docker Engine does not answer.",
            why=str(err),
            fix="Is it running, and may this user reach it? docker info",
        ) from err


def ours(**labels: str | int) -> dict[str, list[str]]:
    """A filter for what belongs to this project and has these labels (`model`: `mlops.model`)."""
    values = {"project": settings().compose_project, **labels}
    return {"label": [f"mlops.{key}={value}" for key, value in values.items()]}


def kill(container: Any) -> None:
    """End a container at once; one that has just ended is no error."""
    try:
        container.kill()
    except docker.errors.APIError as err:
        if err.status_code not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            raise


def remove(container: Any) -> None:
    """Remove a container, running or not. It is gone on return, whoever removed it.

    Raises:
        docker.errors.APIError: It cannot be removed.
    """
    with suppress(docker.errors.NotFound):
        try:
            container.remove(force=True, v=True)
        except docker.errors.APIError as err:
            if err.status_code != HTTPStatus.CONFLICT:  # somebody else is removing it
                raise
            result = container.wait(condition="removed", timeout=TIMEOUT_S)
            if result.get("Error"):
                raise
