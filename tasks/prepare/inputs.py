"""What a version is made from, as digests: only a change in one of them makes a new version."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from mlflow.artifacts import load_dict
from mlflow.entities import Run
from pydantic import BaseModel, ConfigDict

import tasks
from tasks.base.files import sha256
from tasks.base.settings import settings
from tasks.clients import store, tracking
from tasks.pipeline.schema import Pipeline
from tasks.prepare import function
from tasks.records.snapshots import Manifest

ARTIFACT = "inputs.json"
"""Artifact of a parent run: its `Inputs`."""
IRRELEVANT_SECTIONS = {"schedule", "owner", "description", "tags", "serving"}
"""Keys of a pipeline file that change no model."""
MAKERS = ("prepare", "data", "models", "search", "select", "evaluate")
"""Packages and modules of `tasks` that make a model, together with what they import."""
REPORT = "records.report"
"""Not followed: `select` imports it, but it only describes a search."""
DIGITS = 16


class Inputs(BaseModel):
    """Digests of everything that a version is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str
    sections: dict[str, str]
    """By the key of the pipeline file, as resolved."""
    code: dict[str, str]
    """By the path of a Python file."""

    @property
    def digest(self) -> str:
        """One digest of all of them."""
        return store.digest(self.model_dump_json().encode())

    def changes_since(self, earlier: Inputs) -> str:
        """The parts that differ, for the log."""
        parts = {
            "pipeline file": _differing(self.sections, earlier.sections),
            "code": _differing(self.code, earlier.code),
        }
        changes = [f"{part} ({', '.join(names)})" for part, names in parts.items() if names]
        return ", ".join([*(["data"] if self.snapshot != earlier.snapshot else []), *changes])


def collect(pipeline: Pipeline, manifest: Manifest) -> Inputs:
    """The inputs of a run on this snapshot with the code as it is."""
    sections = pipeline.model_dump(mode="json", exclude=IRRELEVANT_SECTIONS)
    package = Path(tasks.__file__).parent
    code = {str(path.relative_to(package.parent)): path for path in code_files(package)}
    own = [settings().pipelines / f"{pipeline.name}.py"]
    if pipeline.data.prepare:
        own.append(function.file_path(pipeline.data.prepare))
    code |= {f"{path.parent.name}/{path.name}": path for path in own if path.exists()}
    return Inputs(
        snapshot=manifest.address,
        sections={
            key: store.digest(json.dumps(value).encode())[:DIGITS]
            for key, value in sections.items()
        },
        code={name: sha256(path)[:DIGITS] for name, path in sorted(code.items())},
    )


def read(run: Run) -> Inputs | None:
    """The inputs of a parent run; None if it recorded none, as one that was logged by hand."""
    files = tracking.client().list_artifacts(run.info.run_id)
    if ARTIFACT not in {file.path for file in files}:
        return None
    return Inputs.model_validate(load_dict(f"{run.info.artifact_uri}/{ARTIFACT}"))


def code_files(package: Path) -> list[Path]:
    """The files of the package `tasks` that make a model, found by following imports."""
    modules = {_module(path, package): path for path in package.rglob("*.py")}
    open_names = [name for name in modules if _is_in(name, MAKERS)]
    names = set(open_names)
    while open_names:
        new = _imports(modules[open_names.pop()]) & modules.keys() - names
        new = {name for name in new if not _is_in(name, (REPORT,))}
        names |= new
        open_names += new
    return sorted(modules[name] for name in names)


def _module(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def _imports(path: Path) -> set[str]:
    """Modules of `tasks` that a file imports, anywhere in the file, and their packages."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = [name.split(".")[1:] for name in names if name.startswith("tasks.")]
    return {".".join(parts[:size]) for parts in inside for size in range(1, len(parts) + 1)}


def _differing(parts: dict[str, str], earlier: dict[str, str]) -> list[str]:
    names = sorted(parts.keys() | earlier.keys())
    return [name for name in names if parts.get(name) != earlier.get(name)]
