"""The DAG files as the DAG processor and a task read them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.base.settings import REPOSITORY

EXAMPLE = REPOSITORY / "pipelines" / "diabetes_progression.yaml"
HEAVY = ("mlflow", "sklearn", "tensorflow", "keras", "hyperopt", "pandas", "numpy", "boto3")
READ = """
import json, sys
sys.path[:0] = [{dags!r}, {plugins!r}]
import {file} as module
from airflow.sdk import DAG
dags = {{k: v for k, v in vars(module).items() if isinstance(v, DAG)}}
heavy = [m for m in {heavy!r} if m in sys.modules]
print(json.dumps({{
    "dags": {{k: {{"tasks": list(v.task_dict), "docs": v.doc_md or "", "tags": sorted(v.tags),
                  "undocumented": [t.task_id for t in v.tasks if not t.doc_md],
                  "params": v.params.dump(),
                  "schedule": getattr(getattr(v.timetable, "timetable", None), "expression", ""),
                  "forms": {{n: v.params.get_param(n).schema for n in v.params}}}}
             for k, v in dags.items()}},
    "heavy": heavy}}))
"""

FAULT = """
from tasks.pipeline import load
real = load.load
load.load = lambda name: {}["a fault"] if name == "two" else real(name)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipelines folder with three good files."""
    pipelines = tmp_path / "pipelines"
    pipelines.mkdir()
    for name in ("one", "two", "three"):
        (pipelines / f"{name}.yaml").write_text(EXAMPLE.read_text())
    return pipelines


def read(folder: Path, file: str, first: str = "", **environment: str) -> dict:
    """The DAGs of a file for a pipelines folder, read in a new process that first runs `first`."""
    code = first + READ.format(
        dags=str(REPOSITORY / "dags"), plugins=str(REPOSITORY / "plugins"), file=file, heavy=HEAVY
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "MLOPS_PIPELINES": str(folder),
            "AIRFLOW_HOME": str(folder.parent / "airflow"),
            "PYTHONPATH": str(REPOSITORY),
        }
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_deployments_are_spread_over_the_minutes(folder: Path) -> None:
    for number in range(30):
        (folder / f"model_{number}.yaml").write_text(EXAMPLE.read_text())
    schedules = {name: dag["schedule"] for name, dag in read(folder, "deploy")["dags"].items()}
    assert schedules == {
        name: dag["schedule"] for name, dag in read(folder, "deploy")["dags"].items()
    }
    minutes = {re.fullmatch(r".*?(\d)-59/10 \* \* \* \*", text)[1] for text in schedules.values()}
    assert len(minutes) >= 8


def test_every_pipeline_gets_its_dags_and_no_ml_library_is_imported(folder: Path) -> None:
    train, deploy = read(folder, "train"), read(folder, "deploy")
    assert set(train["dags"]) == {"train__one", "train__two", "train__three"}
    assert set(deploy["dags"]) == {"deploy__one", "deploy__two", "deploy__three"}
    assert train["heavy"] == deploy["heavy"] == []


def test_a_task_builds_only_its_own_dag(folder: Path) -> None:
    train = read(folder, "train", _AIRFLOW_PARSING_CONTEXT_DAG_ID="train__two")
    assert set(train["dags"]) == {"train__two"}


def test_tasks_and_dags_are_documented_and_in_order(folder: Path) -> None:
    dag = read(folder, "train")["dags"]["train__one"]
    assert dag["tasks"] == [
        "prepare", "search", "select", "evaluate", "gate", "build", "promote", "finish",
    ]  # fmt: skip
    assert dag["undocumented"] == []
    assert dag["docs"]


def test_the_form_shows_the_file_s_defaults(folder: Path) -> None:
    text = (folder / "one.yaml").read_text()
    assert "trials: 40" in text
    (folder / "one.yaml").write_text(text.replace("trials: 40", "trials: 17"))
    params = read(folder, "train")["dags"]["train__one"]["params"]
    assert params["trials"] == 17
    assert set(params) == {
        "trials", "slots", "seed", "algorithm", "trial_timeout", "timeout", "points", "snapshot",
        "gate_mode", "force",
    }  # fmt: skip


def test_a_file_with_mistakes_keeps_its_dag_and_spares_the_others(folder: Path) -> None:
    (folder / "two.yaml").write_text("description: broken\nnonsense: 1\n")
    dags = read(folder, "train")["dags"]
    assert set(dags) == {"train__one", "train__two", "train__three"}
    assert "invalid file" in dags["train__two"]["tags"]
    assert "nonsense" in dags["train__two"]["docs"]
    assert "invalid file" not in dags["train__one"]["tags"]


def test_a_fault_of_the_checks_spares_the_other_files(folder: Path) -> None:
    dags = read(folder, "train", first=FAULT)["dags"]
    assert "invalid file" in dags["train__two"]["tags"]
    assert "invalid file" not in dags["train__one"]["tags"]


def test_housekeeping_is_one_light_dag(folder: Path) -> None:
    housekeeping = read(folder, "housekeeping")
    assert housekeeping["heavy"] == []
    (dag,) = housekeeping["dags"].values()
    assert dag["tasks"] == ["logs"]
    assert dag["undocumented"] == []


def test_register_is_one_light_dag_for_all_pipelines(folder: Path) -> None:
    register = read(folder, "register")
    assert register["heavy"] == []
    (dag,) = register["dags"].values()
    assert dag["tasks"] == ["register", "gate", "build", "promote"]
    assert dag["undocumented"] == []
    assert dag["forms"]["name"]["examples"] == ["one", "three", "two"]
    assert set(dag["forms"]) == {"run_id", "name", "snapshot", "model"}
