"""A run that was logged by hand goes through Airflow: judged, built, promoted, served."""

from __future__ import annotations

import json

import mlflow
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from tasks.base.settings import settings
from tasks.clients import tracking
from tasks.pipeline.load import load
from tasks.prepare import make
from tasks.records import ledger
from tasks.records.snapshots import read_part
from tests.chain.conftest import Chain, mlops
from tests.chain.endpoint import kinds, served
from tests.tasks.test_register import FILE
from tests.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

NAME = "by_hand"


@pytest.fixture(scope="module")
def run_id(chain: Chain) -> str:
    """A run of a person's, in an experiment of its own."""
    (settings().pipelines / f"{NAME}.yaml").write_text(FILE)
    pipeline = load(NAME)
    snapshot = make.make_snapshot(pipeline)
    rows = read_part(snapshot, "train")
    features = rows[list(pipeline.feature_names)]
    with mlflow.start_run(experiment_id=tracking.experiment("notebook")) as run:
        dataset = mlflow.data.from_pandas(
            rows, source=snapshot.parts["train"], targets="target", name=f"{NAME}/train"
        )
        mlflow.log_input(dataset, context="training")
        model = LinearRegression().fit(features, rows["target"])
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(features, model.predict(features)),
            pip_requirements=["scikit-learn"],
        )
    return str(run.info.run_id)


def test_it_is_judged_promoted_and_served(chain: Chain, run_id: str) -> None:
    done = mlops("register", run_id, NAME, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "promote"
    assert result["run"] == run_id
    assert (
        "According to the run's dataset inputs, it was not trained on test rows" in result["text"]
    )
    assert tracking.alias_version(NAME, tracking.CHAMPION) == result["version"] == 1
    assert served(NAME) == 1  # before its next turn by schedule: the promotion tells it
    expected = ["decision", "intent", "moved", "deployed"]
    until(lambda: kinds(NAME) == expected, 60, "the deployment is on record")
    runs = chain.airflow.get(f"/dags/deploy__{NAME}/dagRuns")["dag_runs"]
    assert "asset_triggered" in {run["run_type"] for run in runs}


def test_a_second_time_finds_the_version_and_its_decision(chain: Chain, run_id: str) -> None:
    done = mlops("register", run_id, NAME, "--wait")
    assert done.returncode == 0, done.stderr
    assert f"{NAME} version 1: passed" in done.stdout
    assert tracking.alias_version(NAME, tracking.CHAMPION) == 1
    assert len([entry for entry in ledger.history(NAME) if entry.kind == "decision"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("0" * 32, NAME), "There is no run"),
        (("0" * 32, "by_hnd"), NAME),
    ],
)
def test_mistakes_are_named_with_exit_code_2(
    chain: Chain, run_id: str, words: tuple[str, ...], message: str
) -> None:
    done = mlops("register", *words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
