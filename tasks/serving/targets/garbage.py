"""What no deployment needs any more: old images, unused layers, and what killed builds left."""

from __future__ import annotations

import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import docker.errors

from tasks.base.errors import UnavailableError
from tasks.base.settings import settings
from tasks.clients import database
from tasks.serving.targets import engine
from tasks.serving.targets.engine import client

log = logging.getLogger(__name__)

Image = dict[str, Any]
"""An image as the engine lists it."""


def stored(name: str) -> frozenset[int | None]:
    """Versions of the model that have an image; None: leftovers that belong to no version."""
    images = _images()
    leftovers = _killed_builds() or _nameless(images) or _unused_layers(images)
    versions = {_version(image) for image in images if _is_of(image, name)}
    return frozenset(versions | {None} if leftovers else versions)


def collect(name: str, keep: frozenset[int]) -> None:
    """Remove the images of the model's other versions, unused layers, and killed builds.

    Does nothing while a model is being built; the next call will.
    """
    with suppress(UnavailableError), database.locked(engine.IMAGES, wait_s=1):
        for container in _killed_builds():
            engine.remove(container)
        images = _images()
        nameless = _nameless(images)
        for image in images:
            if image in nameless or (_is_of(image, name) and _version(image) not in keep):
                _remove(image)
        for image in _unused_layers(_images()):
            _remove(image)


def _images() -> list[Image]:
    return list(client().api.images(filters=engine.ours()))


def _is_of(image: Image, name: str) -> bool:
    return bool(image["Labels"].get(engine.MODEL) == name)


def _version(image: Image) -> int:
    return int(image["Labels"][engine.VERSION])


def _killed_builds() -> list[Any]:
    """Containers that no target started and that have ended."""
    containers = client().containers.list(all=True, filters=engine.ours(), ignore_removed=True)
    return [
        container
        for container in containers
        if engine.REPLICA not in container.labels and container.status != "running"
    ]


def _nameless(images: list[Image]) -> list[Image]:
    """Images without a name and without a container."""
    containers = client().api.containers(all=True, filters=engine.ours())
    used = {container["ImageID"] for container in containers}
    return [image for image in images if not _names(image) and image["Id"] not in used]


def _unused_layers(images: list[Image]) -> list[Image]:
    """Requirement layers that no model's image is built on."""
    kinds = [(image, image["Labels"].get(engine.KIND)) for image in images]
    used = {image["Labels"].get(engine.REQUIREMENTS) for image, kind in kinds if kind == "model"}
    return [
        image
        for image, kind in kinds
        if kind == "requirements" and image["Labels"][engine.REQUIREMENTS] not in used
    ]


def _remove(image: Image) -> None:
    """Remove an image under our names for it, unless somebody else's container needs it."""
    names = _names(image)
    ours = [name for name in names if name.startswith(f"{settings().image_prefix}/")]
    for name in ours if names else [image["Id"]]:
        try:
            client().images.remove(name)
        except docker.errors.APIError as err:
            if err.status_code not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise
            log.info("the image %s is kept: %s", name, err.explanation)


def _names(image: Image) -> list[str]:
    return [name for name in image["RepoTags"] or [] if name != "<none>:<none>"]
