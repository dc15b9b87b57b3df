"""Which parts of a version's inputs make a new version, and how their changes are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import tasks
from tasks.pipeline.schema import Pipeline
from tasks.prepare import inputs
from tasks.prepare.inputs import Inputs, changes
from tasks.records.snapshots import Manifest

Make = Callable[..., Pipeline]


class SomeManifest:
    """As much of a manifest as the digest needs."""

    address = "the snapshot"


def collect(pipeline: Pipeline) -> Inputs:
    return inputs.collect(pipeline, cast("Manifest", SomeManifest()))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package `tasks` whose digest is taken."""
    copy = tmp_path / "tasks"
    shutil.copytree(Path(tasks.__file__).parent, copy)
    monkeypatch.setattr(tasks, "__file__", str(copy / "__init__.py"))
    return copy


def comment(path: Path) -> None:
    path.write_text(f"{path.read_text()}# a comment\n")


@pytest.mark.parametrize(
    "file",
    [
        "serving/server/app.py",
        "records/report/charts.py",
        "cli/run.py",
        "stack/doctor.py",
        "gate/bootstrap.py",
        "deploy/act.py",
    ],
)
def test_code_that_makes_no_model_does_not_count(
    make_pipeline: Make, package: Path, file: str
) -> None:
    before = collect(make_pipeline())
    comment(package / file)
    assert collect(make_pipeline()) == before


@pytest.mark.parametrize(
    "file",
    [
        "models/fitting.py",
        "models/estimators/ridge.py",  # imported by its name
        "prepare/gather.py",
        "search/trial.py",
        "select.py",
        "evaluate/__init__.py",
        "data/split.py",
        "pipeline/space.py",  # imported by `search`
        "records/trials/seeds.py",  # imported by `evaluate`
    ],
)
def test_code_that_makes_a_model_counts_and_is_named(
    make_pipeline: Make, package: Path, file: str
) -> None:
    before = collect(make_pipeline())
    comment(package / file)
    assert changes(collect(make_pipeline()), before) == f"file tasks/{file}"


@pytest.mark.parametrize(
    "change",
    [
        {"serving": {"memory": "2g"}},
        {"owner": "somebody else"},
        {"description": "in other words"},
        {"tags": {"team": "wine"}},
        {"schedule": "@daily"},
    ],
)
def test_sections_that_decide_no_model_do_not_count(
    make_pipeline: Make, pipelines: Path, change: dict[str, Any]
) -> None:
    assert collect(make_pipeline(**change)) == collect(make_pipeline())


def test_every_changed_part_is_named(make_pipeline: Make, pipelines: Path) -> None:
    before = collect(make_pipeline())
    (pipelines / "small.py").write_text("# code of this pipeline\n")
    changed = make_pipeline(search={"trials": 5}, gate={"confidence": 0.9})
    after = collect(changed) | {"data": "another"}
    assert inputs.digest(after) != inputs.digest(before)
    assert changes(after, before) == "data, file pipelines/small.py, section gate, section search"
