"""Images from a real engine, of models from a real MLflow."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import docker.errors
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import Settings, settings
from tasks.clients import tracking
from tasks.serving import model_files
from tasks.serving.targets import engine, garbage, image
from tasks.serving.targets.container import ContainerTarget
from tasks.serving.targets.image import Image
from tests.tasks.serving import examples
from tests.waiting import until

pytestmark = pytest.mark.docker
NAME = "image_test"


@pytest.fixture(scope="module")
def built(docker_target: Settings) -> Image:
    """Version 1."""
    version, _ = examples.register(NAME, Ridge())
    return image.build(NAME, version, "mlops")


def inside(name: str, code: str) -> Any:
    """What Python code prints in a container of an image, as JSON."""
    out = engine.client().containers.run(
        name, ["-c", code], entrypoint=["python"], network_mode="none", remove=True
    )
    return json.loads(out)


def layers(name: str) -> list[str]:
    return list(engine.client().images.get(name).attrs["RootFS"]["Layers"])


def test_the_same_inputs_are_the_same_image_and_nothing_is_built(built: Image) -> None:
    with patch.object(type(engine.client().images), "build", side_effect=AssertionError("built")):
        assert image.build(NAME, 1, "mlops") == built
        assert image.find(NAME, 1, "mlops") == built


def test_a_new_version_shares_the_requirement_layer(built: Image) -> None:
    version, _ = examples.register(NAME, LinearRegression())
    other = image.build(NAME, version, "mlops")
    assert other.id != built.id
    layer = f"{settings().image_prefix}/base:{built.labels[engine.REQUIREMENTS]}"
    assert other.labels[engine.REQUIREMENTS] == built.labels[engine.REQUIREMENTS]
    shared = layers(layer)
    assert layers(built.tag)[: len(shared)] == layers(other.tag)[: len(shared)] == shared


def test_other_code_of_the_server_is_another_image(
    built: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = (image.DOCKERFILES / "version.Dockerfile").read_text() + "ENV CHANGED=1\n"
    monkeypatch.setattr(image, "DOCKERFILES", dockerfiles(tmp_path / "docker", version=changed))
    other = image.build(NAME, 1, "mlops")
    assert other.id != built.id
    monkeypatch.undo()
    # What serves is not built again because the server's code has changed since.
    assert image.find(NAME, 1, "mlops") == other
    assert image.build(NAME, 1, "mlops").labels == built.labels


def test_labels_say_what_it_was_made_from(docker_target: Settings) -> None:
    client = tracking.client()
    version, run_id = examples.register("labelled", Ridge())
    client.set_tag(run_id, tracking.DAG_RUN, "train__labelled/manual")
    for key, value in (("git_commit", "abc"), (tracking.SNAPSHOT, "s3://data/m"), ("author", "me")):
        client.set_model_version_tag("labelled", str(version), key, value)
    labels = image.build("labelled", version, "mlops").labels
    expected = {
        "org.opencontainers.image.title": "labelled",
        "org.opencontainers.image.version": str(version),
        "org.opencontainers.image.revision": "abc",
        "org.opencontainers.image.authors": "me",
        "org.opencontainers.image.base.name": settings().base_image,
        "mlops.project": settings().compose_project,
        "mlops.model": "labelled",
        "mlops.version": str(version),
        "mlops.run": run_id,
        "mlops.snapshot": "s3://data/m",
        "mlops.dag_run": "train__labelled/manual",
        "mlops.builder": "mlops",
    }
    assert expected.items() <= labels.items()
    assert re.fullmatch("[0-9a-f]{64}", labels["mlops.inputs"])


INSIDE = """
import importlib.util, json, os, pathlib, shutil
def found(*patterns):
    return [str(p) for pattern in patterns for p in pathlib.Path('/').glob(pattern)]
print(json.dumps({
    'uid': os.getuid(),
    'packages': [n for n in ('airflow', 'hyperopt', 'tensorflow', 'docker', 'boto3', 'psycopg2',
                             'pip', 'uv') if importlib.util.find_spec(n)],
    'tools': [n for n in ('gcc', 'cc', 'make', 'uv', 'git') if shutil.which(n)],
    'caches': found('root/.cache/*', 'tmp/*', 'var/lib/apt/lists/*_*', 'opt/*/.cache'),
    'ours': sorted(str(p.relative_to('/app')) for p in pathlib.Path('/app').rglob('*.py')),
    'stale': [str(p) for p in pathlib.Path('/app').rglob('*.py')
              if not importlib.util.cache_from_source(str(p)) or
              not pathlib.Path(importlib.util.cache_from_source(str(p))).exists()],
    'writable': [p for p in ('/app', '/model', '/opt/venv') if os.access(p, os.W_OK)],
}))
"""


SERVER = (
    *("__init__", "__main__", "app", "contract", "encoding", "payload", "scorer", "signature"),
)


def test_what_is_inside(built: Image) -> None:
    assert inside(built.tag, INSIDE) == {
        "uid": 10001,
        "packages": [],
        "tools": [],
        "caches": [],
        "ours": [
            "tasks/__init__.py",
            "tasks/serving/__init__.py",
            *(f"tasks/serving/server/{name}.py" for name in SERVER),
        ],
        "stale": [],
        "writable": [],
    }


def test_no_secret_is_in_it(built: Image) -> None:
    inspected = engine.client().images.get(built.tag)
    text = json.dumps([inspected.history(), inspected.attrs])
    key = settings().aws_secret_access_key
    assert key is not None
    secrets = [key.get_secret_value(), settings().database, str(settings().aws_access_key_id)]
    assert all(secrets)
    assert not [secret for secret in secrets if secret in text]


def test_a_version_made_again_under_the_same_number_is_not_mistaken(
    docker_target: Settings,
) -> None:
    name = "made_again"
    examples.register(name, Ridge())
    first = image.build(name, 1, "mlops")
    tracking.client().delete_registered_model(name)
    examples.register(name, Ridge())
    assert image.find(name, 1, "mlops") is None
    assert image.build(name, 1, "mlops").id != first.id


def with_requirements(folder: Path, *lines: str) -> Any:
    """Downloads as they are, but for the requirements in them."""
    real = model_files.fetch

    def fetch(name: str, version: int) -> Path:
        (real(name, version) / "requirements.txt").write_text("\n".join(lines))
        return real(name, version)

    return patch.object(model_files, "fetch", fetch)


def test_requirements_that_cannot_be_met(docker_target: Settings, tmp_path: Path) -> None:
    version, _ = examples.register("impossible", Ridge())
    with (
        with_requirements(tmp_path, "scikit-learn==0.0.1"),
        pytest.raises(RunFailedError, match="cannot be built") as raised,
    ):
        image.build("impossible", version, "mlops")
    assert "scikit-learn==0.0.1" in raised.value.why
    assert image.find("impossible", version, "mlops") is None


def test_a_package_index_out_of_reach_is_no_fault_of_the_version(
    docker_target: Settings, tmp_path: Path
) -> None:
    version, _ = examples.register("offline", Ridge())
    real = image._build

    def offline(*args: Any, **options: Any) -> Image:
        return real(*args, **options | {"network_mode": "none"})

    with (
        with_requirements(tmp_path, "scikit-learn", "joblib"),
        patch.object(image, "_build", offline),
        pytest.raises(UnavailableError, match="could not be built"),
    ):
        image.build("offline", version, "mlops")


def test_a_model_of_another_python(docker_target: Settings, tmp_path: Path) -> None:
    version, _ = examples.register("other_python", Ridge())
    card = model_files.read_card(model_files.fetch("other_python", version))
    with (
        patch.object(model_files, "read_card", lambda _: dataclasses.replace(card, python="3.99")),
        pytest.raises(RunFailedError) as raised,
    ):
        image.build("other_python", version, "mlops")
    assert "Python 3.99: set MLOPS_BASE_IMAGE" in raised.value.why


def test_no_such_version(docker_target: Settings) -> None:
    for call in (image.build, image.find):
        with pytest.raises(RunFailedError, match="no version 99"):
            call(NAME, 99, "mlops")


def dockerfiles(folder: Path, **texts: str) -> Path:
    """The Dockerfiles, some of them others."""
    folder.mkdir()
    for file in image.DOCKERFILES.glob("*.Dockerfile"):
        shutil.copy(file, folder)
    for name, text in texts.items():
        (folder / f"{name}.Dockerfile").write_text(text)
    return folder


EMPTY_LAYER = "ARG BASE\nFROM ${BASE}\nARG PROJECT\nARG PYTHON\nLABEL mlops.project=${PROJECT}\n"


def test_clean_keeps_what_is_asked_for_and_leaves_nothing_else(
    docker_target: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cleaned"
    for estimator in (Ridge(), Ridge(alpha=2), LinearRegression()):
        version, _ = examples.register(name, estimator)
        image.build(name, version, "mlops")
    garbage.collect(name, {1, 3})
    assert [v for v in (1, 2, 3) if image.find(name, v, "mlops")] == [1, 3]
    assert image.find(NAME, 1, "mlops")  # another model's
    # A layer that no model needs, as when a build is killed before the model's files are added.
    monkeypatch.setattr(
        image, "DOCKERFILES", dockerfiles(tmp_path / "docker", requirements=EMPTY_LAYER)
    )
    unused = image._requirement_layer(model_files.fetch(name, 1))
    garbage.collect(name, {3})
    assert image._get(unused.tag) is None
    assert [v for v in (1, 2, 3) if image.find(name, v, "mlops")] == [3]


def build_slowly(environment: dict[str, str], folder: Path) -> None:
    """Build in this process, with a step that takes minutes."""
    os.environ.update(environment)
    settings.cache_clear()
    image.DOCKERFILES = folder
    image.build(NAME, 1, "mlops")


def left() -> tuple[list[str], list[str]]:
    """Containers and unnamed images that are known as ours."""
    filters = engine.ours()
    client = engine.client()
    containers = client.containers.list(all=True, filters=filters, ignore_removed=True)
    images = client.images.list(filters={**filters, "dangling": True})
    return [item.name for item in containers], [item.id for item in images]


def test_a_killed_build_leaves_nothing_after_the_next_clean(built: Image, tmp_path: Path) -> None:
    folder = dockerfiles(
        tmp_path / "docker",
        requirements=f"{EMPTY_LAYER}RUN python3 -c 'import time; time.sleep(300)'\n",
    )
    context = multiprocessing.get_context("forkserver")
    environment = {key: text for key, text in os.environ.items() if key.startswith("MLOPS_")}
    process = context.Process(target=build_slowly, args=(environment, folder))
    process.start()
    until(lambda: running(left()[0]), 60, "the step runs")
    process.kill()
    process.join()
    until(lambda: not running(left()[0]), 60, "the engine has noticed")
    ContainerTarget().clean(NAME, {1})
    assert left() == ([], [])
    assert image.find(NAME, 1, "mlops") == built


def test_a_container_that_others_remove_as_well_is_gone(built: Image) -> None:
    at_once = threading.Barrier(8)

    def remove(name: str) -> None:
        container = engine.client().containers.get(name)
        at_once.wait()
        engine.remove(container)
        with pytest.raises(docker.errors.NotFound):
            container.reload()

    for _ in range(3):
        made = engine.client().containers.run(
            built.tag, ["-c", "input()"], entrypoint=["python"], stdin_open=True, detach=True
        )
        with ThreadPoolExecutor(at_once.parties) as pool:
            list(pool.map(remove, [made.id] * at_once.parties))


def running(names: list[str]) -> list[str]:
    containers = engine.client().containers.list(ignore_removed=True)
    return [container.name for container in containers if container.name in names]
