"""`mlflow run` from a clean clone, in the current environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run
from sklearn.datasets import load_diabetes
from typer.testing import CliRunner

from tasks import project
from tasks.base.errors import UserError
from tasks.base.settings import REPOSITORY, Settings, settings
from tasks.clients import tracking
from tasks.evaluate import evaluate
from tasks.pipeline.overrides import Overrides
from tasks.prepare import prepare
from tasks.search import search
from tasks.select import select
from tests.waiting import until

NAME = "steady"
TRIALS, SEED = 5, 3


@dataclass(frozen=True)
class Call:
    """The result of calling an entry point."""

    code: int
    output: str
    errors: str

    @property
    def result(self) -> dict[str, Any]:
        """The line of JSON in its output, among which MLflow may print lines of its own."""
        assert self.code == 0, self.errors
        (line,) = [line for line in self.output.splitlines() if line.startswith("{")]
        return json.loads(line)


@pytest.fixture(scope="module")
def folder(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A pipelines folder of this module."""
    pipelines = tmp_path_factory.mktemp("pipelines")
    shutil.copy(REPOSITORY / "tests" / "chain" / "pipelines" / f"{NAME}.yaml", pipelines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_PIPELINES", str(pipelines))
        settings.cache_clear()
        yield pipelines
    settings.cache_clear()


@pytest.fixture(scope="module")
def clone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone of the repository."""
    clone = tmp_path_factory.mktemp("clone") / "repository"
    subprocess.run(
        ["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(clone)], check=True
    )
    return clone


def environment(**changes: str) -> dict[str, str]:
    """A shell after `eval "$(./mlops env)"`, with the virtual environment first in PATH."""
    return (
        os.environ
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": settings().tracking_uri,
        }
        | changes
    )


def call(*command: str, cwd: Path = REPOSITORY, **changes: str) -> Call:
    result = subprocess.run(
        command, cwd=cwd, env=environment(**changes), capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    return Call(result.returncode, result.stdout, result.stderr)


def step(*arguments: str) -> Call:
    """An entry point without `mlflow run`."""
    return call(sys.executable, "-m", "tasks.project", *arguments)


def mlflow_run(clone: Path, entry: str, *options: str, **parameters: Any) -> Call:
    arguments = [word for key, value in parameters.items() for word in ("-P", f"{key}={value}")]
    return call(
        "mlflow", "run", str(clone), "--env-manager", "local", "-e", entry, *options, *arguments
    )


def children(run_id: str) -> list[Run]:
    experiment = tracking.client().get_run(run_id).info.experiment_id
    runs = tracking.client().search_runs([experiment], f"tags.`{tracking.PARENT}` = '{run_id}'")
    return sorted(runs, key=lambda child: int(child.data.tags[tracking.TRIAL]))


def trials(name: str) -> list[Run]:
    """The children of the pipeline's newest run."""
    run = tracking.find_run(name, tracking.NAME, name)
    return children(run.info.run_id) if run else []


def figures(run: Run) -> Any:
    """Except for the last digits: a forest's threads sum in any order."""
    values = {key: value for key, value in run.data.metrics.items() if key != "duration_s"}
    return pytest.approx(values, rel=1e-12)


def calls() -> list[Run]:
    """The runs that `mlflow run` made, the newest first."""
    return list(tracking.client().search_runs(["0"], "tags.`mlflow.source.type` = 'PROJECT'"))


@pytest.fixture(scope="module")
def trained(clone: Path) -> dict[str, Any]:
    """`mlflow run . -e train`."""
    return mlflow_run(clone, "train", pipeline=NAME, trials=TRIALS, seed=SEED, slots=1).result


def test_train_makes_the_same_runs_and_figures_as_the_dag(trained: dict[str, Any]) -> None:
    overrides = Overrides(trials=TRIALS, seed=SEED, slots=1, force=True)
    (slot,) = prepare(NAME, f"train__{NAME}/same", overrides).slots
    search(slot)
    version = evaluate(select(slot.run))

    client = tracking.client()
    ours, dag = client.get_run(trained["run"]), client.get_run(version.run_id)
    assert {k: v for k, v in ours.data.metrics.items() if k != "duration_s"} == figures(dag)
    assert trained["figures"] == ours.data.metrics
    assert ours.data.params == dag.data.params
    assert ours.data.tags.keys() == dag.data.tags.keys()
    for tag in (tracking.SNAPSHOT, tracking.PIPELINE, tracking.BEST):
        assert ours.data.tags[tag] == dag.data.tags[tag]
    both = list(zip(children(trained["run"]), children(version.run_id), strict=True))
    assert len(both) == TRIALS
    for child, dag_child in both:
        assert child.data.params == dag_child.data.params
        assert {k: v for k, v in child.data.metrics.items() if k != "duration_s"} == figures(
            dag_child
        )


def test_train_registers_a_challenger_in_the_pipeline_s_experiment(
    trained: dict[str, Any],
) -> None:
    entry = tracking.client().get_model_version(NAME, str(trained["version"]))
    assert entry.run_id == trained["run"]
    assert {tracking.SNAPSHOT, tracking.PIPELINE} <= set(entry.tags)
    model = tracking.client().get_logged_model(entry.source.removeprefix("models:/"))
    assert model.experiment_id == tracking.experiment(NAME)


def test_no_run_stays_open_and_the_call_names_its_parent_run(trained: dict[str, Any]) -> None:
    project_run = next(run for run in calls() if run.data.tags.get(tracking.RUN) == trained["run"])
    parent = tracking.client().get_run(trained["run"])
    assert project_run.info.status == parent.info.status == "FINISHED"
    assert project_run.data.params["pipeline"] == NAME
    assert parent.data.tags[tracking.DAG_RUN] == f"mlproject/{project_run.info.run_id}"
    assert {child.info.status for child in children(trained["run"])} == {"FINISHED"}


def test_a_repeated_call_continues_the_first(clone: Path, trained: dict[str, Any]) -> None:
    project_run = next(run for run in calls() if run.data.tags.get(tracking.RUN) == trained["run"])
    again = mlflow_run(
        clone, "train", "--run-id", project_run.info.run_id,
        pipeline=NAME, trials=TRIALS, seed=SEED, slots=1,
    ).result  # fmt: skip
    assert (again["run"], again["version"]) == (trained["run"], trained["version"])
    assert len(children(trained["run"])) == TRIALS


def test_evaluate_repeats_the_figures_of_the_run(clone: Path, trained: dict[str, Any]) -> None:
    result = mlflow_run(clone, "evaluate", pipeline=NAME, model=trained["version"]).result
    expected = {k: v for k, v in trained["figures"].items() if k.startswith("test_")}
    assert result["figures"] == pytest.approx(expected, rel=1e-12)
    assert calls()[0].data.metrics == pytest.approx(expected, rel=1e-12)


def test_score_writes_the_predictions(clone: Path, trained: dict[str, Any], tmp_path: Path) -> None:
    rows = load_diabetes(as_frame=True, scaled=False).data.head(7)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    target = tmp_path / "scored.csv"
    mlflow_run(
        clone, "score",
        pipeline=NAME, input=tmp_path / "rows.csv", output=target, model="challenger",
    )  # fmt: skip
    model = mlflow.sklearn.load_model(f"models:/{NAME}@challenger")
    assert pd.read_csv(target)["prediction"].to_numpy() == pytest.approx(model.predict(rows))


def test_the_steps_one_by_one_make_one_parent_run(folder: Path) -> None:
    options = ("--trials", "4", "--slots", "2", "--seed", "9")
    prepared = step("prepare", "--pipeline", NAME, *options).result
    run_id, client = prepared["run"], tracking.client()
    assert client.get_run(run_id).info.status == "FINISHED"
    assert children(run_id) == []
    searched = step("search", "--run", run_id).result
    assert len(children(run_id)) == 4
    assert searched["trial_run"] in [child.info.run_id for child in children(run_id)]
    trained = step("train", "--pipeline", NAME, "--run", run_id).result
    assert trained["run"] == run_id
    assert len(children(run_id)) == 4
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_failed_search_leaves_no_run_open(folder: Path) -> None:
    text = (folder / f"{NAME}.yaml").read_text()
    for healthy in ("{uniformint: [1, 20]}", "{loguniform: [log(0.005), log(0.3)]}"):
        text = text.replace(healthy, "-1")
    (folder / "failing.yaml").write_text(text)
    result = step("train", "--pipeline", "failing", "--trials", "2", "--slots", "1")
    assert result.code == 4
    assert "None of the 2 trials finished" in result.errors
    run = tracking.find_run("failing", tracking.NAME, "failing")
    assert run is not None
    assert run.info.status == "FAILED"


def test_a_stopped_call_leaves_no_run_open(folder: Path) -> None:
    shutil.copy(folder / f"{NAME}.yaml", folder / "stopped.yaml")
    command = [sys.executable, "-m", "tasks.project", "train", "--pipeline", "stopped"]
    running = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stderr=subprocess.PIPE)
    try:
        until(lambda: trials("stopped"), 120, "a trial is published")
        running.terminate()
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, errors
    run = tracking.find_run("stopped", tracking.NAME, "stopped")
    assert run is not None
    assert run.info.status == "FAILED"
    assert "RUNNING" not in {child.info.status for child in trials("stopped")}


def test_a_mistake_is_named_with_exit_code_2(folder: Path) -> None:
    done = step("train", "--pipeline", "stedy")
    assert done.code == 2, done.errors
    assert NAME in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("train", "--pipeline", "stedy"), NAME),
        (("train", "--pipeline", NAME, "--trails", "4"), "trials"),
        (("train", "--pipeline", NAME, "--trials", "0"), "trials"),
        (("search", "--run", "0" * 32), "There is no run"),
        (("evaluate", "--pipeline", NAME, "--model", "champoin"), "champoin"),
        (("evaluate", "--pipeline", NAME, "--part", "tests"), "tests"),
    ],
)
def test_mistakes_are_the_users_to_mend(
    folder: Path, trained: dict[str, Any], words: tuple[str, ...], meant: str
) -> None:
    error = CliRunner().invoke(project.app, words).exception
    assert isinstance(error, UserError)
    assert meant in f"{error.what} {error.why} {error.fix}"


def test_a_local_tracking_store_is_refused(clone: Path, tmp_path: Path) -> None:
    result = call(
        "mlflow", "run", str(clone), "--env-manager", "local", "-e", "prepare",
        "-P", f"pipeline={NAME}",
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/own.db",
    )  # fmt: skip
    assert result.code != 0
    assert "not on the stack's server" in result.errors
