"""Small real models for the tests of serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks import tracking

TREE = "sklearn.tree._tree.Tree"
REQUIREMENTS = ["scikit-learn"]
ROWS, TARGET = load_diabetes(scaled=False, as_frame=True, return_X_y=True)
ROWS = ROWS.astype(float)
ROW = ROWS.iloc[0].to_dict()

ECHO = '''
import time
from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Gate(PythonModel):
    """Makes the file `began` when a request is in flight; answers when `release` is there."""

    def predict(self, context, model_input, params=None):
        for began, release in zip(model_input["began"], model_input["release"]):
            Path(began).touch()
            while not Path(release).exists():
                time.sleep(0.01)
        return list(model_input["answer"])


set_model(Gate())
'''

BROKEN = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Broken(PythonModel):
    def load_context(self, context):
        raise RuntimeError("the reason")

    def predict(self, context, model_input, params=None):
        return model_input


set_model(Broken())
"""


def fitted(estimator: BaseEstimator) -> Pipeline:
    """A pipeline fitted on the diabetes data."""
    return make_pipeline(StandardScaler(), estimator).fit(ROWS, TARGET)


def logged(model: Pipeline, predictions: list[Any] | None = None) -> dict[str, Any]:
    """How `evaluate` logs a model; other `predictions` make a smoke test that fails."""
    example = ROWS.head(3)
    right = model.predict(example)
    return {
        "serialization_format": "skops",
        "skops_trusted_types": [TREE],
        "signature": infer_signature(example, right),
        "pip_requirements": REQUIREMENTS,
        "metadata": {
            "smoke_test": {
                "inputs": json.loads(example.to_json(orient="split", index=False)),
                "predictions": right.tolist() if predictions is None else predictions,
            }
        },
    }


def save(folder: Path, estimator: BaseEstimator) -> Path:
    """A model's folder, without a server."""
    model = fitted(estimator)
    mlflow.sklearn.save_model(model, folder, **logged(model))
    return folder


def save_gate(folder: Path) -> Path:
    """A model whose requests wait for a file."""
    code = folder.with_suffix(".py")
    code.write_text(ECHO)
    columns = [ColSpec(DataType.string, name) for name in ("began", "release")]
    schema = Schema([*columns, ColSpec(DataType.double, "answer")])
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(code),
        signature=ModelSignature(inputs=schema),
        pip_requirements=REQUIREMENTS,
    )
    return folder


def save_typed(folder: Path) -> Path:
    """A model of one column a type that answers with what it got."""
    code = folder.with_suffix(".py")
    code.write_text(
        "from mlflow.models import set_model\n"
        "from mlflow.pyfunc import PythonModel\n"
        "class Typed(PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input\n"
        "set_model(Typed())\n"
    )
    kinds = ("integer", "long", "boolean", "string", "double")
    schema = Schema([ColSpec(DataType[kind], kind) for kind in kinds])
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(code),
        signature=ModelSignature(inputs=schema),
        pip_requirements=REQUIREMENTS,
    )
    return folder


def register(name: str, estimator: BaseEstimator, **options: Any) -> tuple[int, str]:
    """Log a model and register it; returns the version and its run."""
    client = tracking.client()
    model = fitted(estimator)
    run = client.create_run(tracking.experiment(name))
    with mlflow.start_run(run_id=run.info.run_id):
        info = mlflow.sklearn.log_model(
            model, name="model", registered_model_name=name, **logged(model, **options)
        )
    return int(info.registered_model_version), run.info.run_id


def register_broken(name: str, folder: Path) -> tuple[int, str]:
    """A version whose server ends when it loads the model."""
    code = folder / "broken.py"
    code.write_text(BROKEN)
    with mlflow.start_run(experiment_id=tracking.experiment(name)) as run:
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code),
            registered_model_name=name,
            pip_requirements=REQUIREMENTS,
        )
    return int(info.registered_model_version), run.info.run_id


def parquet(rows: pd.DataFrame) -> bytes:
    """A Parquet file."""
    return bytes(rows.to_parquet(index=False))
