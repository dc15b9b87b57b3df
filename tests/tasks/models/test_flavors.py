from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.pyfunc import PythonModel
from sklearn.datasets import load_diabetes
from sklearn.pipeline import Pipeline as Model

from tasks.base.settings import Settings
from tasks.clients import tracking
from tasks.models import fitting, flavors
from tasks.pipeline.schema import Pipeline
from tasks.serving import smoke
from tasks.serving.model_files import read_card
from tasks.serving.server.scorer import Scorer
from tasks.serving.server.signature import RequestError
from tests.tasks.models.test_fitting import pipeline as regression

FRAME, PROGRESSION = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
FRAME = FRAME.assign(clinic=np.where(FRAME["sex"] > 1, "north", "south"))
KINDS = dict.fromkeys(FRAME, "double") | {"clinic": "category"}
NETWORK = {"estimator": "keras_mlp", "units_1": 8, "units_2": 8, "epochs": 2}
PLAIN = """
import sys
import mlflow.pyfunc
import numpy as np
import pandas as pd

loaded = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
predicted = loaded.predict(pd.read_parquet(sys.argv[2]))
assert "tasks" not in sys.modules
np.save(sys.argv[3], np.asarray(predicted, dtype=str))
"""


def fit(params: dict[str, Any], task: str = "regression", threshold: float = 0.5) -> Model:
    config: Pipeline = regression(KINDS, task=task, space=params)
    truth: Any = PROGRESSION
    if task != "regression":
        config = config.model_copy(update={"threshold": threshold})
        truth = np.where(PROGRESSION > 150, "worse", "better")
    return fitting.refit(
        config, params, fitting.Rows(FRAME, pd.Series(truth)), {}, seed=1, threads=1
    )


@pytest.fixture
def run(servers: Settings) -> Iterator[None]:
    tracking.client()
    with mlflow.start_run(experiment_id=tracking.experiment("flavors")):
        yield


@pytest.fixture(scope="module")
def network() -> Model:
    return fit(NETWORK, "binary", threshold=0.3)


def files(uri: str, folder: Path) -> Path:
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def test_a_scikit_learn_model_has_mlflows_own_flavor(run: None) -> None:
    fitted = fit({"estimator": "random_forest", "n_estimators": 5})

    uri = flavors.log(fitted, FRAME.head())

    assert "sklearn" in mlflow.models.get_model_info(uri).flavors
    np.testing.assert_array_equal(flavors.load(uri).predict(FRAME), fitted.predict(FRAME))


def served(folder: Path) -> Any:
    """The predictions of the scoring server for the smoke test's rows."""
    card = read_card(folder)
    assert card.smoke_test is not None
    body = json.dumps({"dataframe_split": card.smoke_test["inputs"]}).encode()
    return json.loads(Scorer.load(folder).answer(body, "application/json"))["predictions"]


def test_columns_that_are_null_in_the_example_keep_their_types(run: None, tmp_path: Path) -> None:
    fitted = fit({"estimator": "linear"})
    nulls = {"clinic": pd.Series([None] * 5, dtype="str"), "bmi": np.nan}
    example = FRAME.head().assign(**nulls)

    folder = files(flavors.log(fitted, example), tmp_path)

    loaded = Scorer.load(folder)
    assert loaded.reader.signature is not None
    kinds = {name: kind.name for name, kind in loaded.reader.signature.types.items()}
    assert kinds == dict.fromkeys(FRAME, "double") | {"clinic": "string"}
    assert read_card(folder).required == tuple(FRAME)
    assert smoke.same(served(folder), fitted.predict(example).tolist())
    wrong = {"dataframe_records": [{**FRAME.iloc[0].to_dict(), "clinic": True}]}
    with pytest.raises(RequestError, match="'clinic' must be text"):
        loaded.answer(json.dumps(wrong).encode(), "application/json")


def test_tiny_numbers_pass_the_smoke_test(run: None, tmp_path: Path) -> None:
    params = {"estimator": "ridge"}
    config = regression(KINDS, space=params, scale="standard")
    rows = FRAME.assign(bmi=FRAME["bmi"] * 1.23456789012345e-11)
    fitted = fitting.refit(config, params, fitting.Rows(rows, PROGRESSION), {}, seed=1, threads=1)

    folder = files(flavors.log(fitted, rows.head()), tmp_path)

    assert smoke.same(served(folder), fitted.predict(rows.head()).tolist())


def test_a_loaded_network_predicts_the_same(run: None) -> None:
    fitted = fit(NETWORK)

    again = flavors.load(flavors.log(fitted, FRAME.head()))

    np.testing.assert_allclose(again.predict(FRAME), fitted.predict(FRAME), rtol=1e-6)
    assert not hasattr(again, "classes_")
    assert not hasattr(again, "predict_proba")


def test_a_classifying_network_keeps_its_threshold(run: None, network: Model) -> None:
    again = flavors.load(flavors.log(network, FRAME.head()))

    chances = again.predict_proba(FRAME)
    assert list(again.classes_) == ["better", "worse"]
    np.testing.assert_allclose(chances, network.predict_proba(FRAME), rtol=1e-6)
    np.testing.assert_array_equal(again.predict(FRAME) == "worse", chances[:, 1] >= 0.3)
    np.testing.assert_array_equal(again.predict(FRAME), network.predict(FRAME))


def test_a_network_treats_none_as_a_null(run: None, network: Model) -> None:
    nulls = FRAME.head().assign(clinic=pd.Series([np.nan] * 5, dtype="str"))

    again = flavors.load(flavors.log(network, FRAME.head()))

    predicted = again.predict_proba(nulls.assign(clinic=pd.Series([None] * 5, dtype="object")))
    np.testing.assert_allclose(predicted, network.predict_proba(nulls), rtol=1e-6)


def test_a_network_is_stored_without_a_pickle_and_loads_without_our_package(
    run: None, network: Model, tmp_path: Path
) -> None:
    folder = files(flavors.log(network, FRAME.head()), tmp_path)
    rows, predictions = tmp_path / "rows.parquet", tmp_path / "predictions.npy"
    FRAME.to_parquet(rows)

    subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, str(folder), str(rows), str(predictions)],
        cwd=tmp_path, check=True, timeout=120,
    )  # fmt: skip

    np.testing.assert_array_equal(np.load(predictions), network.predict(FRAME).astype(str))
    assert {file.name for file in (folder / "data" / "network").iterdir()} == {
        "preparation.skops", "network.keras", "about.json",
    }  # fmt: skip
    assert not [*folder.rglob("*.pkl"), *folder.rglob("*.pickle")]
    wanted = (folder / "requirements.txt").read_text().splitlines()
    assert {"tensorflow", "keras", "skops"} <= {line.partition("==")[0] for line in wanted}
    card = yaml.safe_load((folder / "MLmodel").read_text())["metadata"]["smoke_test"]
    assert card["predictions"] == network.predict(FRAME.head()).tolist()
    assert card["tolerance"] == 1e-5


class Sum(PythonModel):
    """A model logged by hand; for more rows than these it returns two columns."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
        return model_input if len(model_input) == 2 else model_input.sum(axis=1)


def test_a_model_logged_by_hand(run: None) -> None:
    rows = FRAME[["age", "bmi"]]
    signature = mlflow.models.infer_signature(rows, np.zeros(3))
    logged = mlflow.pyfunc.log_model(
        name="model", python_model=Sum(), signature=signature, pip_requirements=[]
    )

    loaded = flavors.load(logged.model_uri)

    np.testing.assert_allclose(loaded.predict(rows), rows.sum(axis=1))
    with pytest.raises(ValueError, match=r"one value per row. Got an array \(2, 2\)"):
        loaded.predict(rows.head(2))
    with pytest.raises(ValueError, match="missing inputs"):
        loaded.predict(FRAME[["age"]])


def test_rows_have_the_types_that_a_model_logged_by_hand_wants(run: None) -> None:
    """A snapshot's numbers are doubles, which MLflow does not convert to narrower types."""
    rows = FRAME[["age", "bmi"]].astype({"age": "float32", "bmi": "float32"})
    signature = mlflow.models.infer_signature(rows, np.zeros(3))
    logged = mlflow.pyfunc.log_model(
        name="model", python_model=Sum(), signature=signature, pip_requirements=[]
    )

    predicted = flavors.load(logged.model_uri).predict(FRAME[["age", "bmi"]].astype(float))

    np.testing.assert_allclose(predicted, rows.sum(axis=1), rtol=1e-6)


def test_a_keras_model_logged_by_hand(run: None) -> None:
    import keras

    rows = FRAME[["age", "bmi"]]
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    logged = mlflow.keras.log_model(network, name="model", pip_requirements=[])

    predicted = flavors.load(logged.model_uri).predict(rows)

    np.testing.assert_allclose(predicted, network.predict(rows.to_numpy())[:, 0], rtol=1e-6)
