"""The Docker Engine: its client, its errors in our words, and the labels by which we know our own.

Nothing of ours is remembered elsewhere: what runs, of which version and made from what, is read
from the labels of images and containers.
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
"""On everything of ours, what a killed build left included."""
KIND = "mlops.kind"
"""On an image: `requirements` or `model`."""
REQUIREMENTS = "mlops.requirements"
"""On an image: the digest of its requirement layer."""
INPUTS = "mlops.inputs"
"""On a model's image: the digest of all that it was made from."""
SOURCE = "mlops.source"
"""On a model's image: the registered version's URI, since numbers come back after a deletion."""
MODEL, VERSION, BUILDER = "mlops.model", "mlops.version", "mlops.builder"
"""On a model's image and on its containers."""
REPLICA, SERVING = "mlops.replica", "mlops.serving"
"""On a container that a target started: its number, and the digest of how it was started."""

TIMEOUT_S = 60
BUILD_TIMEOUT_S = 1800
"""Without a word from the engine: installing TensorFlow is silent for minutes."""


@lru_cache(maxsize=1)
def client() -> Any:
    """The engine's client of this process."""
    return DockerClient(settings().docker_host, version="auto", timeout=TIMEOUT_S)


@contextmanager
def answering() -> Iterator[None]:
    """The engine's errors as ours.

    Raises:
        UserError: The engine, or the filter before it, refuses what was asked.
        UnavailableError: It does not answer, or failed.
    """
    try:
        yield
    except docker.errors.APIError as err:
        why = str(err.explanation or err)
        if err.is_client_error():
            raise UserError("The Docker Engine refused what was asked.", why=why) from err
        raise UnavailableError("The Docker Engine failed.", why=why) from err
    except (docker.errors.DockerException, requests.RequestException) as err:
        raise UnavailableError(
            "The Docker Engine does not answer.",
            why=str(err),
            fix="Is it running, and may this user reach it? docker info",
        ) from err


def ours(**labels: str | int) -> dict[str, list[str]]:
    """A filter for what is this project's and carries these labels (`model` for `mlops.model`)."""
    wanted = {"project": settings().compose_project, **labels}
    return {"label": [f"mlops.{key}={value}" for key, value in wanted.items()]}


def kill(container: Any) -> None:
    """End a container at once, unless it has just ended by itself."""
    try:
        container.kill()
    except docker.errors.APIError as err:
        if err.status_code not in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            raise


def remove(container: Any) -> None:
    """Remove a container, running or not; it is gone when this returns, whoever removed it.

    Raises:
        docker.errors.APIError: It cannot be removed.
    """
    with suppress(docker.errors.NotFound):
        try:
            container.remove(force=True, v=True)
        except docker.errors.APIError as err:
            if err.status_code != HTTPStatus.CONFLICT:  # that is another's removal under way
                raise
            left = container.wait(condition="removed", timeout=TIMEOUT_S)
            if left.get("Error"):
                raise
