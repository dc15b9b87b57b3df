"""What a version is made from, as digests: only a change in one of them makes a new version."""

from __future__ import annotations

import ast
import json
import threading
from pathlib import Path

from mlflow.artifacts import load_dict
from mlflow.entities import Run

import tasks
from tasks.base.files import sha256
from tasks.base.settings import settings
from tasks.clients import store, tracking
from tasks.pipeline.schema import Pipeline
from tasks.prepare import function
from tasks.records.snapshots import Manifest

Inputs = dict[str, str]
"""Part -> digest. Parts are `data`, `section search`, `file tasks/models/fitting.py` and so on."""

ARTIFACT = "inputs.json"
"""Artifact of a parent run: its `Inputs`."""
IRRELEVANT_SECTIONS = {"schedule", "owner", "description", "tags", "serving"}
"""Sections of a pipeline file that change no model."""
MAKERS = ("prepare", "data", "models", "search", "select", "evaluate")
"""Packages and modules of `tasks` that make a model, together with what they import."""
REPORT = "records.report"
"""Not followed: `select` imports it, but it only describes a search."""
_PARSING = threading.Lock()
"""Python 3.11 can fail when two threads parse at once: "recursion depth mismatch"."""


def collect(pipeline: Pipeline, manifest: Manifest) -> Inputs:
    """The inputs of a run on this snapshot, with the code as it is."""
    inputs = {"data": manifest.address}
    sections = pipeline.model_dump(mode="json", exclude=IRRELEVANT_SECTIONS)
    for key, value in sections.items():
        inputs[f"section {key}"] = store.digest(json.dumps(value).encode())
    own = [settings().pipelines / f"{pipeline.name}.py"]
    if pipeline.data.prepare:
        own.append(function.file_path(pipeline.data.prepare))
    package = Path(tasks.__file__).parent
    for path in [*code_files(package), *(path for path in own if path.exists())]:
        root = package.parent if path.is_relative_to(package) else path.parent.parent
        inputs[f"file {path.relative_to(root)}"] = sha256(path)
    return inputs


def digest(inputs: Inputs) -> str:
    """One digest of all of them."""
    return store.digest(json.dumps(inputs, sort_keys=True).encode())


def changes(inputs: Inputs, earlier: Inputs) -> str:
    """The parts that differ, for the log."""
    return ", ".join(sorted({part for part, _ in inputs.items() ^ earlier.items()}))


def read(run: Run) -> Inputs | None:
    """The inputs of a parent run; None for a run that recorded none, e.g. one logged by hand."""
    if tracking.INPUTS not in run.data.tags:
        return None
    artifacts = tracking.client().list_artifacts(run.info.run_id)
    if all(file.path != ARTIFACT for file in artifacts):
        return None
    return dict(load_dict(f"{run.info.artifact_uri}/{ARTIFACT}"))


def code_files(package: Path) -> list[Path]:
    """The files of the package `tasks` that make a model, found by following imports."""
    modules = {
        ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    followed: set[str] = set()
    names = {name for name in modules if _is_in(name, *MAKERS)}
    while names - followed:
        name = (names - followed).pop()
        followed.add(name)
        imported = modules.keys() & _imports(modules[name])
        names |= {other for other in imported if not _is_in(other, REPORT)}
    return sorted(modules[name] for name in names)


def _is_in(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _imports(path: Path) -> set[str]:
    """Modules of `tasks` that a file imports, anywhere in the file, and their packages."""
    names: set[str] = set()
    with _PARSING:
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = [name.split(".")[1:] for name in names if name.startswith("tasks.")]
    return {".".join(parts[:size]) for parts in inside for size in range(1, len(parts) + 1)}
