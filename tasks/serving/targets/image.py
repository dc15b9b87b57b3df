"""The image of a model version: base, requirement layer, scoring server, the model's files.

MLflow's own image copies the model before it installs the requirements, so that each promotion
installs all of them again. Here a version with known requirements costs the copy of its files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import docker.errors
from mlflow.entities.model_registry import ModelVersion

from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import REPOSITORY, settings
from tasks.clients import database, tracking
from tasks.pipeline.schema import Builder
from tasks.records import registry
from tasks.serving import model_files
from tasks.serving.targets import engine, requirements
from tasks.serving.targets.context import Context
from tasks.serving.targets.engine import client

log = logging.getLogger(__name__)

DOCKERFILES = REPOSITORY / "docker" / "model"
FRAGMENT = DOCKERFILES / "mlflow.fragment"
SERVER = Path("tasks", "serving", "server")
"""The folder that runs in an image."""
LOG_LINES = 60
_OCI = "org.opencontainers.image."
_HOPELESS = re.compile(r"No solution found|Failed to build|needs a base image with Python \d")
"""Words of uv or of our Dockerfile where a second try is hopeless; a network may come back."""


@dataclass(frozen=True)
class Image:
    """A version's image in the engine."""

    tag: str
    id: str
    labels: dict[str, str]
    size: int
    """Bytes, the layers that it shares included."""


def tag(name: str, version: int) -> str:
    """The name of a version's image."""
    return f"{settings().image_prefix}/{name}:{version}"


def find(name: str, version: int, builder: Builder) -> Image | None:
    """The version's image if the engine has it, as it was built: a newer server is no reason.

    Raises:
        RunFailedError: There is no such version.
    """
    image = _get(tag(name, version))
    wanted = {
        engine.SOURCE: str(_entry(name, version).source),
        engine.BUILDER: builder,
        engine.PROJECT: settings().compose_project,
    }
    return image if image and wanted.items() <= image.labels.items() else None


def build(name: str, version: int, builder: Builder) -> Image:
    """The image of just these inputs; built unless it is there.

    Raises:
        RunFailedError: The requirements cannot be installed, or the model's files are not there.
        UnavailableError: A package index or the engine does not answer.
    """
    entry = _entry(name, version)
    folder = model_files.fetch(name, version)
    labels = _labels(entry, builder)
    with database.locked("images"):  # `clean` would take a layer for one that nobody needs
        make = _ours if builder == "mlops" else _mlflow
        image = make(entry, folder, labels)
    log.info("image %s, %.0f MB", image.tag, image.size / 1e6)
    return image


def clean(name: str, keep: set[int]) -> None:
    """Remove the model's images but those of some versions, unused layers, and killed builds.

    While another model is being built, nothing: the next call will do it.
    """
    with suppress(UnavailableError), database.locked("images", wait_s=1):
        _remove_killed_builds()
        containers = client().api.containers(all=True, filters=engine.ours())
        in_use = {one["ImageID"] for one in containers}
        for one in client().api.images(filters=engine.ours()):
            labels = one["Labels"]
            old = labels.get(engine.MODEL) == name and int(labels[engine.VERSION]) not in keep
            if old or (not _names(one) and one["Id"] not in in_use):
                _remove(one)
        _remove_unused_layers()


def _remove_killed_builds() -> None:
    for one in client().containers.list(all=True, filters=engine.ours(), ignore_removed=True):
        if engine.REPLICA not in one.labels and one.status != "running":
            engine.remove(one)


def _remove_unused_layers() -> None:
    found = [(one, one["Labels"]) for one in client().api.images(filters=engine.ours())]
    needed = {
        labels.get(engine.REQUIREMENTS) for _, labels in found if labels.get(engine.KIND) == "model"
    }
    for one, labels in found:
        if labels.get(engine.KIND) == "requirements" and labels[engine.REQUIREMENTS] not in needed:
            _remove(one)


def _remove(summary: dict[str, Any]) -> None:
    """Remove an image under our names for it, unless a container of somebody's needs it."""
    names = _names(summary)
    ours = [name for name in names if name.startswith(f"{settings().image_prefix}/")]
    for name in ours if names else [summary["Id"]]:
        try:
            client().images.remove(name)
        except docker.errors.APIError as err:
            if err.status_code not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise
            log.info("the image %s is kept: %s", name, err.explanation)


def _names(summary: dict[str, Any]) -> list[str]:
    return [name for name in summary["RepoTags"] or [] if name != "<none>:<none>"]


def _ours(entry: ModelVersion, folder: Path, labels: dict[str, str]) -> Image:
    layer = _requirement_layer(folder)
    command = json.dumps(["--name", entry.name, "--version", str(entry.version)])
    with Context() as context:
        for package in SERVER.parents[:-1]:
            _add_module(context, package / "__init__.py")
        for path in sorted((REPOSITORY / SERVER).glob("*.py")):
            _add_module(context, SERVER / path.name)
        context.add("model", folder)
        # No network: all that this build needs is in the context.
        return _build(
            tag(entry.name, int(entry.version)),
            f"{_dockerfile('version')}CMD {command}\n",
            context,
            labels,
            buildargs={"BASE": layer.tag},
            network_mode="none",
        )


def _add_module(context: Context, module: Path) -> None:
    context.add(str("app" / module), REPOSITORY / module)


def _requirement_layer(folder: Path) -> Image:
    """The layer with the packages that the model needs, shared by all with the same."""
    needed = requirements.of_model(folder)
    arguments = {
        "BASE": settings().base_image,
        "PROJECT": settings().compose_project,
        "PYTHON": model_files.read_card(folder).python,
    }
    texts = {"requirements.txt": needed.wanted, "pins.txt": needed.pins}
    dockerfile = _dockerfile("requirements")
    digest = _digest([_base().id, arguments, texts, dockerfile])[:16]
    name = f"{settings().image_prefix}/base:{digest}"
    found = _get(name)
    if found:
        return found
    labels = {
        engine.PROJECT: settings().compose_project,
        engine.KIND: "requirements",
        engine.REQUIREMENTS: digest,
        f"{_OCI}base.name": settings().base_image,
    }
    with Context(texts) as context:
        return _build(name, dockerfile, context, labels, buildargs=arguments)


def _mlflow(entry: ModelVersion, folder: Path, labels: dict[str, str]) -> Image:
    """The image that MLflow's generator writes the Dockerfile of."""
    from mlflow.models.flavor_backend_registry import get_flavor_backend

    _base()
    with TemporaryDirectory() as made:
        backend = get_flavor_backend(str(folder), docker_build=True, env_manager="local")
        backend.generate_dockerfile(str(folder), made, base_image=settings().base_image)
        written = Path(made, "Dockerfile").read_text() + FRAGMENT.read_text()
        first = f"\\1\nLABEL {engine.PROJECT}={settings().compose_project}"
        dockerfile = re.sub("^(FROM .*)", first, written, count=1, flags=re.MULTILINE)
        with Context() as context:
            for path in sorted(Path(made).iterdir()):
                if path.name != "Dockerfile":
                    context.add(path.name, path)
            return _build(tag(entry.name, int(entry.version)), dockerfile, context, labels)


def _build(
    name: str, dockerfile: str, context: Context, labels: dict[str, str], **options: Any
) -> Image:
    """Build an image, or find the one of the same inputs."""
    inputs = _digest([dockerfile, context.digest(), labels, sorted(options.items())])
    known = _get(name)
    if known and known.labels.get(engine.INPUTS) == inputs:
        return known
    line, rest = _label_line({**labels, engine.INPUTS: inputs})
    context.close(dockerfile + line)
    try:
        client().images.build(
            fileobj=context.file,
            custom_context=True,
            tag=name,
            labels=rest,
            rm=True,
            forcerm=True,
            timeout=engine.BUILD_TIMEOUT_S,
            **options,
        )
    except docker.errors.BuildError as err:
        raise _failure(name, err) from err
    built = _get(name)
    if built is None:
        raise UnavailableError(f"The image {name} went away as soon as it was built.")
    return built


def _label_line(labels: dict[str, str]) -> tuple[str, dict[str, str]]:
    """One instruction for all labels, which the engine would add by a step each, and the rest.

    The rest are those that the instruction could not hold as they are.
    """
    plain = {key: text for key, text in labels.items() if re.fullmatch(r"[ !#-#%-\[\]-~]*", text)}
    given = " ".join(f'{key}="{text}"' for key, text in plain.items() if "<<" not in text)
    rest = {key: text for key, text in labels.items() if key not in plain or "<<" in text}
    return f"LABEL {given}\n", {**rest, engine.PROJECT: settings().compose_project}


def _failure(name: str, err: docker.errors.BuildError) -> RunFailedError | UnavailableError:
    said = "".join(str(one.get("stream") or one.get("error") or "") for one in err.build_log)
    why = "\n".join(said.strip().splitlines()[-LOG_LINES:])
    if _HOPELESS.search(said):
        return RunFailedError(f"The image {name} cannot be built.", why=why)
    return UnavailableError(f"The image {name} could not be built.", why=why or str(err.msg))


def _labels(entry: ModelVersion, builder: Builder) -> dict[str, str]:
    tags = entry.tags
    run = tracking.client().get_run(entry.run_id).data.tags if entry.run_id else {}
    found = {
        f"{_OCI}title": entry.name,
        f"{_OCI}version": str(entry.version),
        f"{_OCI}description": entry.description,
        f"{_OCI}authors": tags.get("author"),
        f"{_OCI}revision": tags.get("git_commit"),
        f"{_OCI}base.name": settings().base_image,
        engine.PROJECT: settings().compose_project,
        engine.KIND: "model",
        engine.BUILDER: builder,
        engine.MODEL: entry.name,
        engine.VERSION: str(entry.version),
        engine.SOURCE: str(entry.source),
        "mlops.run": entry.run_id,
        "mlops.snapshot": tags.get(tracking.SNAPSHOT),
        "mlops.dag_run": run.get(tracking.DAG_RUN),
    }
    # In one line each: a description may have several.
    return {key: " ".join(str(value).split()) for key, value in found.items() if value}


def _entry(name: str, version: int) -> ModelVersion:
    entry = registry.version(name, version)
    if entry is None:
        raise RunFailedError(f"There is no version {version} of {name}.")
    return entry


def _base() -> Image:
    """The base image, pulled when the engine lacks it."""
    name = settings().base_image
    found = _get(name)
    if found is None:
        # To build on it has it pulled, and needs no right to pull images.
        borrowed = f"{settings().image_prefix}/base:pulled"
        with Context() as context:
            context.close(f"FROM {name}\n")
            try:
                client().images.build(fileobj=context.file, custom_context=True, tag=borrowed)
            except docker.errors.BuildError as err:
                raise UnavailableError(
                    f"The base image {name} cannot be pulled.", why=str(err.msg)
                ) from err
        client().images.remove(borrowed)
        found = _get(name)
    if found is None:
        raise UnavailableError(f"The base image {name} is not there.")
    return found


def _get(name: str) -> Image | None:
    try:
        found = client().images.get(name)
    except docker.errors.ImageNotFound:
        return None
    return Image(name, found.id, found.labels or {}, found.attrs["Size"])


def _dockerfile(name: str) -> str:
    return (DOCKERFILES / f"{name}.Dockerfile").read_text()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
