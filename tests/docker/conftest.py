"""An engine under names of the tests' own, which are gone when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import docker.errors
import pytest

from tasks.base.settings import Settings, settings
from tasks.serving.targets import engine
from tests.conftest import forget


@pytest.fixture(scope="session")
def docker_target(servers: Settings) -> Iterator[Settings]:
    """PostgreSQL, the S3 server and MLflow; models run in containers."""
    name = f"mlops-test-{uuid4().hex[:8]}"
    ours = {
        "MLOPS_TARGET": "docker",
        "MLOPS_COMPOSE_PROJECT": name,
        "MLOPS_IMAGE_PREFIX": name,
    }
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    forget()
    engine.client.cache_clear()
    try:
        yield settings()
    finally:
        remove_all()
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        forget()
        engine.client.cache_clear()


def remove_all() -> None:
    """Remove every container and image of the tests."""
    client: Any = engine.client()
    for container in client.containers.list(all=True, filters=engine.ours(), ignore_removed=True):
        with suppress(docker.errors.APIError):  # a test that was cut short is still at it
            container.remove(force=True, v=True)
    for filters in (engine.ours(kind="model"), engine.ours()):  # what is built on others first
        for image in client.images.list(filters=filters):
            with suppress(docker.errors.APIError):  # gone with one that was built on it
                client.images.remove(image.id, force=True)
