"""Small real models for the tests of serving."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
import uvicorn
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from starlette.types import ASGIApp

from tasks.clients import tracking
from tests.waiting import until

TREE = "sklearn.tree._tree.Tree"
REQUIREMENTS = ["scikit-learn", "skops"]
ROWS, TARGET = load_diabetes(scaled=False, as_frame=True, return_X_y=True)
ROWS = ROWS.astype(float)
ROW = ROWS.iloc[0].to_dict()

GATE = '''
import time
from contextlib import contextmanager
from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Gate(PythonModel):
    """Creates the file `began` when a request is in flight; answers when `release` exists."""

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


@contextmanager
def serve(application: ASGIApp) -> Iterator[str]:
    """Run an application in a thread; yields its address."""
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started, 60, "it runs")
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def fitted(estimator: BaseEstimator) -> Pipeline:
    """A pipeline fitted on the diabetes data."""
    return make_pipeline(StandardScaler(), estimator).fit(ROWS, TARGET)


def logged(model: Pipeline, predictions: list[Any] | None = None) -> dict[str, Any]:
    """How `evaluate` logs a model; with other `predictions` the smoke test fails."""
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


def gate(folder: Path) -> dict[str, Any]:
    """How to log a model whose requests wait for a file."""
    code, done = folder / "gate.py", folder / "done"
    code.write_text(GATE)
    done.touch()
    columns = [ColSpec(DataType.string, name) for name in ("began", "release")]
    inputs = {"columns": ["began", "release", "answer"], "data": [[str(done), str(done), 4.5]]}
    return {
        "python_model": str(code),
        "signature": ModelSignature(inputs=Schema([*columns, ColSpec(DataType.double, "answer")])),
        "pip_requirements": REQUIREMENTS,
        "metadata": {"smoke_test": {"inputs": inputs, "predictions": [4.5]}},
    }


def register_gate(name: str, folder: Path) -> int:
    """Log and register a version whose requests wait for a file."""
    with mlflow.start_run(experiment_id=tracking.experiment(name)):
        info = mlflow.pyfunc.log_model(name="model", registered_model_name=name, **gate(folder))
    return int(info.registered_model_version)


class Waiting:
    """One request to a gate, in flight until released."""

    def __init__(self, url: str, folder: Path) -> None:
        self.began, self.release = folder / "began", folder / "release"
        row = {"began": str(self.began), "release": str(self.release), "answer": 7.5}
        self.body = {"dataframe_records": [row]}
        self.pool = ThreadPoolExecutor(1)
        self.answer = self.pool.submit(httpx.post, url, json=self.body, timeout=60)
        until(self.began.exists, 60, "the request is in flight")

    def end(self) -> httpx.Response:
        """Release the request; returns its answer."""
        self.release.touch()
        answer = self.answer.result(60)
        self.pool.shutdown()
        return answer


def save_typed(folder: Path) -> Path:
    """A model with one column of each type that returns its input."""
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
