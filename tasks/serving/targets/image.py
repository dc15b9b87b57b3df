"""Builds the image of a model version: base, requirement layer, scoring server, model files.

MLflow's own image copies the model before it installs the requirements, so every promotion installs
them again. Here, a version whose requirements are known costs only the copy of its files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
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
SERVER = ("tasks/__init__.py", "tasks/serving/__init__.py", "tasks/serving/server")
"""What runs in an image: the server's folder, and what makes it a package."""
LOG_LINES = 60
_OCI = "org.opencontainers.image."
_HOPELESS = re.compile(r"No solution found|Failed to build|needs a base image with Python \d")
"""What uv or our Dockerfile prints when a retry is pointless; a network may come back."""


@dataclass(frozen=True)
class Image:
    """A version's image in the engine."""

    tag: str
    id: str
    labels: dict[str, str]
    size: int
    """Bytes, including the layers that it shares."""


def tag(name: str, version: int) -> str:
    """The name of a version's image."""
    return f"{settings().image_prefix}/{name}:{version}"


def find(name: str, version: int, builder: Builder) -> Image | None:
    """The version's image, if the engine has it; one with an older server counts too.

    Raises:
        RunFailedError: There is no such version.
    """
    image = _get(tag(name, version))
    labels = {
        engine.SOURCE: str(_entry(name, version).source),
        engine.BUILDER: builder,
        engine.PROJECT: settings().compose_project,
    }
    return image if image and labels.items() <= image.labels.items() else None


def build(name: str, version: int, builder: Builder) -> Image:
    """The image of exactly these inputs, built if the engine lacks it.

    Raises:
        RunFailedError: The requirements cannot be installed, or the model's files are missing.
        UnavailableError: A package index or the engine does not answer.
    """
    entry = _entry(name, version)
    folder = model_files.fetch(name, version)
    labels = _labels(entry, builder)
    with database.locked(engine.IMAGES):
        build_image = _ours if builder == "mlops" else _mlflow
        image = build_image(entry, folder, labels)
    log.info("image %s, %.0f MB", image.tag, image.size / 1e6)
    return image


def _ours(entry: ModelVersion, folder: Path, labels: dict[str, str]) -> Image:
    layer = _requirement_layer(folder)
    command = json.dumps(["--name", entry.name, "--version", str(entry.version)])
    with Context() as context:
        for path in SERVER:
            context.add(f"app/{path}", REPOSITORY / path)
        context.add("model", folder)
        # No network: the context holds everything that this build needs.
        return _build(
            tag(entry.name, int(entry.version)),
            f"{_dockerfile('version')}CMD {command}\n",
            context,
            labels,
            buildargs={"BASE": layer.tag},
            network_mode="none",
        )


def _requirement_layer(folder: Path) -> Image:
    """The layer with the packages that the model needs, shared by models that need the same."""
    packages = requirements.collect(folder)
    arguments = {
        "BASE": settings().base_image,
        "PROJECT": settings().compose_project,
        "PYTHON": model_files.read_card(folder).python,
    }
    texts = {"requirements.txt": packages.required, "pins.txt": packages.pins}
    dockerfile = _dockerfile("requirements")
    digest = _digest([_base().id, arguments, texts, dockerfile])[:16]
    name = f"{settings().image_prefix}/base:{digest}"
    layer = _get(name)
    if layer:
        return layer
    labels = {
        engine.PROJECT: settings().compose_project,
        engine.KIND: "requirements",
        engine.REQUIREMENTS: digest,
        f"{_OCI}base.name": settings().base_image,
    }
    with Context(texts) as context:
        return _build(name, dockerfile, context, labels, buildargs=arguments)


def _mlflow(entry: ModelVersion, folder: Path, labels: dict[str, str]) -> Image:
    """The image from the Dockerfile that MLflow generates."""
    from mlflow.models.flavor_backend_registry import get_flavor_backend

    _base()
    with TemporaryDirectory() as generated:
        backend = get_flavor_backend(str(folder), docker_build=True, env_manager="local")
        backend.generate_dockerfile(str(folder), generated, base_image=settings().base_image)
        text = Path(generated, "Dockerfile").read_text() + FRAGMENT.read_text()
        first = f"\\1\nLABEL {engine.PROJECT}={settings().compose_project}"
        dockerfile = re.sub("^(FROM .*)", first, text, count=1, flags=re.MULTILINE)
        with Context() as context:
            for path in sorted(Path(generated).iterdir()):
                if path.name != "Dockerfile":
                    context.add(path.name, path)
            return _build(tag(entry.name, int(entry.version)), dockerfile, context, labels)


def _build(
    name: str, dockerfile: str, context: Context, labels: dict[str, str], **options: Any
) -> Image:
    """Build an image, or return the one that has the same inputs."""
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
        raise UnavailableError(f"The image {name} disappeared as soon as it was built.")
    return built


def _label_line(labels: dict[str, str]) -> tuple[str, dict[str, str]]:
    """One instruction for all labels, and the labels that it cannot hold as they are.

    The engine would add each label in a step of its own.
    """
    plain = {
        key: text
        for key, text in labels.items()
        if re.fullmatch(r"[ !#-#%-\[\]-~]*", text) and "<<" not in text
    }
    pairs = " ".join(f'{key}="{text}"' for key, text in plain.items())
    rest = {key: text for key, text in labels.items() if key not in plain}
    return f"LABEL {pairs}\n", {**rest, engine.PROJECT: settings().compose_project}


def _failure(name: str, err: docker.errors.BuildError) -> RunFailedError | UnavailableError:
    lines = (str(line.get("stream") or line.get("error") or "") for line in err.build_log)
    output = "".join(lines)
    why = "\n".join(output.strip().splitlines()[-LOG_LINES:])
    if _HOPELESS.search(output):
        return RunFailedError(f"The image {name} cannot be built.", why=why)
    return UnavailableError(f"The image {name} could not be built.", why=why or str(err.msg))


def _labels(entry: ModelVersion, builder: Builder) -> dict[str, str]:
    tags = entry.tags
    run = tracking.client().get_run(entry.run_id).data.tags if entry.run_id else {}
    labels = {
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
    # A label is one line; a description may have several.
    return {key: " ".join(str(value).split()) for key, value in labels.items() if value}


def _entry(name: str, version: int) -> ModelVersion:
    entry = registry.version(name, version)
    if entry is None:
        raise RunFailedError(f"There is no version {version} of {name}.")
    return entry


def _base() -> Image:
    """The base image, pulled when the engine lacks it."""
    name = settings().base_image
    image = _get(name) or _pull(name)
    if image is None:
        raise UnavailableError(f"The base image {name} is missing.")
    return image


def _pull(name: str) -> Image | None:
    """Pull an image by building on it, which needs no right to pull images."""
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
    return _get(name)


def _get(name: str) -> Image | None:
    try:
        image = client().images.get(name)
    except docker.errors.ImageNotFound:
        return None
    return Image(name, image.id, image.labels or {}, image.attrs["Size"])


def _dockerfile(name: str) -> str:
    return (DOCKERFILES / f"{name}.Dockerfile").read_text()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
