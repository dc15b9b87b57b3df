"""A version's model as files on this machine, and what they say about it, without ML libraries."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tasks.base import files
from tasks.base.errors import RunFailedError
from tasks.base.settings import settings

NUMERIC = ("double", "float", "integer", "long")
SMOKE_TEST = "smoke_test.json"
"""Beside the MLmodel file, if the model was logged without a smoke test in its metadata."""


@dataclass(frozen=True)
class Card:
    """What the MLmodel file says about a model."""

    run_id: str
    python: str
    """The Python version that the model was made with: major and minor."""
    smoke_test: dict[str, Any] | None
    """`inputs` (a dataframe_split) and the `predictions` that they must give: logged with the
    model, or computed when the version was registered."""
    required: tuple[str, ...]
    numeric: tuple[str, ...]
    """Names of the columns that a request must have, and of the numeric ones."""


def read_card(folder: Path) -> Card:
    """Read the MLmodel file of a model's folder."""
    content = yaml.safe_load((folder / "MLmodel").read_text())
    loader = content["flavors"]["python_function"]
    columns = json.loads((content.get("signature") or {}).get("inputs") or "[]")
    named = [column for column in columns if "name" in column]
    smoke_test, beside = (content.get("metadata") or {}).get("smoke_test"), folder / SMOKE_TEST
    if smoke_test is None and beside.exists():
        smoke_test = json.loads(beside.read_text())
    return Card(
        run_id=content.get("run_id") or "",
        python=str(loader.get("python_version", "")).rpartition(".")[0],
        smoke_test=smoke_test,
        required=tuple(column["name"] for column in named if column.get("required", True)),
        numeric=tuple(column["name"] for column in named if column["type"] in NUMERIC),
    )


def fetch(name: str, version: int) -> Path:
    """The folder of a version's model, downloaded if it is missing.

    The folder's name includes the model's id: a version's number returns when a registered model is
    deleted and created again.

    Raises:
        RunFailedError: There is no such version, or its files are gone or belong to another run.
    """
    from mlflow.artifacts import download_artifacts

    from tasks.records import registry

    entry = registry.version(name, version)
    if entry is None:
        raise RunFailedError(f"There is no version {version} of {name}.")
    folder = _folder(name) / f"{version}-{entry.model_id or entry.run_id}"
    if folder.exists():
        _add_smoke_test(folder, entry.tags)
        return folder
    _folder(name).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=_folder(name), prefix=f".{version}-") as beside:
        model = Path(beside, "model")
        download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=str(model))
        if not (model / "MLmodel").exists():
            raise RunFailedError(f"The files of {name} version {version} are gone from the store.")
        run_id = read_card(model).run_id
        if run_id != (entry.run_id or run_id):
            raise RunFailedError(
                f"The files of {name} version {version} are not its own.",
                why=f"They belong to run {run_id!r}, the version to run {entry.run_id!r}.",
            )
        _add_smoke_test(model, entry.tags)
        files.sync(model)
        try:
            model.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another process was faster
                raise
    return folder


def _add_smoke_test(folder: Path, tags: Mapping[str, str]) -> None:
    """Add the smoke test that the version was registered with, if the model has none."""
    from tasks.clients.tracking import SMOKE_TEST as TAG

    if TAG in tags and not (folder / SMOKE_TEST).exists():
        part = folder / f".{SMOKE_TEST}"
        part.write_text(tags[TAG])
        part.replace(folder / SMOKE_TEST)


def forget(name: str, version: int) -> None:
    """Remove the files of a version that is no longer served, including partial downloads."""
    for folder in (*_folder(name).glob(f"{version}-*"), *_folder(name).glob(f".{version}-*")):
        shutil.rmtree(folder, ignore_errors=True)


def _folder(name: str) -> Path:
    return settings().home.absolute() / "models" / name
