"""Our image of a model version compared with MLflow's image of the same version.

`python -m benchmarks.images [ROUNDS]` needs a Docker Engine. It starts PostgreSQL, the store and
MLflow in a state folder of its own, registers two versions of a forest of 50 trees, and builds
each, MLflow's as `mlflow models build-docker --env-manager local` does, from the same base image.
The first build has no cache; the rebuild has everything that the first one left.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker.errors
import httpx
import mlflow
from mlflow.models import infer_signature
from mlflow.models.flavor_backend_registry import get_flavor_backend
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

from benchmarks import machine
from benchmarks.stack import quiet
from tasks.base.settings import settings
from tasks.clients import tracking
from tasks.models.requirements import requirements
from tasks.serving.targets import engine, image
from tasks.stack.embedded import lifecycle, ports
from tasks.stack.embedded.home import Home

NAME = "benchmark_images"
ROWS, TARGET = load_diabetes(scaled=False, as_frame=True, return_X_y=True)
BODY = {"dataframe_records": [ROWS.astype(float).iloc[0].to_dict()]}
GOALS = {"rebuild": 0.05, "size": 0.5}


@dataclass(frozen=True)
class Result:
    """Seconds, and the size in bytes."""

    first: float
    rebuild: float
    size: float
    start: float


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with _own_names():
        lifecycle.start(only=("postgres", "store", "mlflow"), report=quiet)
        for seed in (1, 2):
            _register(seed)
        results: dict[str, list[Result]] = {"ours": [], "MLflow's": []}
        builders = [("ours", _ours), ("MLflow's", _mlflows)]
        for number in range(rounds):
            for kind, build in builders if number % 2 == 0 else reversed(builders):
                results[kind].append(_measure(build))
                _remove()
    _print(results)


def _measure(build: Callable[[int, bool], str]) -> Result:
    first = _timed(lambda: build(1, True))
    rebuild = _timed(lambda: build(2, False))
    tag = build(2, False)
    return Result(first, rebuild, engine.client().images.get(tag).attrs["Size"], _start(tag))


def _ours(version: int, fresh: bool) -> str:
    if fresh:  # the classic builder caches nothing but existing images
        _remove()
    return image.build(NAME, version, "mlops").tag


def _mlflows(version: int, fresh: bool) -> str:
    tag = f"{settings().image_prefix}/reference:{version}"
    with tempfile.TemporaryDirectory() as folder:
        uri = f"models:/{NAME}/{version}"
        backend = get_flavor_backend(uri, docker_build=True, env_manager="local")
        backend.generate_dockerfile(uri, folder, base_image=settings().base_image)
        engine.client().images.build(
            path=folder, tag=tag, nocache=fresh, rm=True, forcerm=True, timeout=1800
        )
    return tag


def _start(tag: str) -> float:
    """Seconds from the container's start to its first predictions."""
    port = ports.unused()
    began = time.perf_counter()
    container = engine.client().containers.run(
        tag, detach=True, ports={"8080/tcp": ("127.0.0.1", port)}
    )
    try:
        url = f"http://127.0.0.1:{port}/invocations"
        while time.perf_counter() - began < 300:
            with suppress(httpx.TransportError):
                if httpx.post(url, json=BODY, timeout=30, trust_env=False).is_success:
                    return time.perf_counter() - began
            time.sleep(0.02)
        raise RuntimeError(f"{tag} does not answer: {container.logs().decode()}")
    finally:
        container.remove(force=True, v=True)


def _register(seed: int) -> None:
    rows = ROWS.astype(float)
    model = RandomForestRegressor(n_estimators=50, random_state=seed).fit(rows, TARGET)
    with mlflow.start_run(experiment_id=tracking.experiment(NAME)):
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=NAME,
            serialization_format="skops",
            skops_trusted_types=["sklearn.tree._tree.Tree"],
            signature=infer_signature(rows, model.predict(rows)),
            pip_requirements=requirements(),
        )


@contextmanager
def _own_names() -> Iterator[None]:
    """A state folder, a project and an image prefix of this run's own."""
    name = f"mlops-bench-{uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        home = Home(Path(folder) / "home")
        os.environ |= {
            "MLOPS_HOME": str(home.root),
            "MLOPS_COMPOSE_PROJECT": name,
            "MLOPS_IMAGE_PREFIX": name,
        }
        settings.cache_clear()
        home.create()
        ports.save(home, ports.Ports(*(ports.unused() for _ in range(5))))
        try:
            yield
        finally:
            _remove()
            lifecycle.down(wipe=True, report=quiet)


def _remove() -> None:
    client: Any = engine.client()
    for built in client.images.list(f"{settings().image_prefix}/*"):
        with suppress(docker.errors.ImageNotFound):
            client.images.remove(built.id, force=True)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _print(results: dict[str, list[Result]]) -> None:
    rows = {
        "first": ("first build, s", 1.0),
        "rebuild": ("rebuild for a new version with the same requirements, s", 1.0),
        "size": ("size, MB", 1e-6),
        "start": ("start to first answer, s", 1.0),
    }
    print(f"{machine.describe()}\n")
    print("| | ours | MLflow's | ratio | goal |")
    print("|---|---:|---:|---:|---:|")
    for field, (title, unit) in rows.items():
        ours, theirs = (
            [getattr(result, field) * unit for result in results[kind]]
            for kind in ("ours", "MLflow's")
        )
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"| {title} | {statistics.median(ours):.1f} | {statistics.median(theirs):.1f} "
            f"| {ratio:.3f} | {GOALS.get(field, '')} |"
        )


if __name__ == "__main__":
    main()
