"""The whole embedded stack, Airflow included, with a folder of pipelines of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tasks.base.settings import REPOSITORY, settings
from tasks.cli import application
from tasks.clients.orchestrator import Airflow
from tasks.pipeline.load import load
from tests.conftest import state_folder
from tests.waiting import until

PIPELINES = Path(__file__).parent / "pipelines"


@dataclass(frozen=True)
class Chain:
    """The stack as a test drives it."""

    home: Path
    airflow: Airflow

    def train(self, name: str, **conf: Any) -> str:
        """Trigger `train__NAME`, once Airflow knows it; returns the DAG run's id."""
        dag = f"train__{name}"
        if not self.airflow.dag_exists(dag):
            self.airflow.read_again("train")
        until(lambda: self.airflow.dag_exists(dag), 120, f"{dag} is parsed")
        return self.airflow.trigger(dag, conf)

    def finish(self, name: str, run_id: str, timeout: float = 400) -> str:
        """Wait for the end of a DAG run; returns its state."""
        done = {"success", "failed"}
        try:
            until(lambda: self.state(name, run_id) in done, timeout, f"{run_id} of {name} ends")
        except AssertionError as error:
            for task in self.airflow.tasks(f"train__{name}", run_id):
                error.add_note(str(task))
            raise
        return self.state(name, run_id)

    def state(self, name: str, run_id: str) -> str:
        """State of a DAG run."""
        return self.airflow.run_state(f"train__{name}", run_id)

    def tasks(self, name: str, run_id: str) -> dict[str, str | None]:
        """State of each task; of the slots, the last."""
        return {t.task: t.state for t in self.airflow.tasks(f"train__{name}", run_id)}

    def parent(self, name: str, run_id: str) -> str:
        """Id of the DAG run's MLflow run, once `prepare` has made it."""

        def made() -> Any:
            return self.airflow.xcom(f"train__{name}", run_id, "prepare")

        until(made, 120, "prepare returns")
        return str(made()[0]["slot"]["run_id"])


def command(*words: str) -> Result:
    """The command line, in this process."""
    return CliRunner().invoke(application(), words)


def mlops(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command line, against this stack."""
    return subprocess.run(
        [str(REPOSITORY / "mlops"), *words],
        env=dict(os.environ),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The running stack; its pipelines are the shipped one and those beside this file."""
    folder = tmp_path_factory.mktemp("pipelines")
    for source in (REPOSITORY / "pipelines", PIPELINES):
        for file in source.glob("*.*"):
            shutil.copy(file, folder)
    with (
        pytest.MonkeyPatch.context() as patch,
        state_folder(tmp_path_factory.mktemp("chain")) as home,
    ):
        patch.setenv("MLOPS_PIPELINES", str(folder))
        # In a separate process. Tests that stop the stack start it again with `stack.start`.
        assert command("up", "--no-wait").exit_code == 0
        until(lambda: command("status").exit_code == 0, 300, "all services run")
        settings.cache_clear()
        assert load("diabetes_progression")
        yield Chain(home.root, Airflow())
    settings.cache_clear()
