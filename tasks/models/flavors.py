"""How a model is kept in MLflow, by what it is, and how any version is loaded again.

A scikit-learn model has MLflow's own flavor, in skops' format. One with a Keras network is its
preparation in that format, the network as a `.keras` file, and one file of code that loads both.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import PyFuncModel
from mlflow.types import DataType, Schema
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from sklearn.pipeline import Pipeline as Model

from tasks.clients import tracking
from tasks.data import json_values
from tasks.models import fitting, keras_model, rounding, threshold
from tasks.models.requirements import requirements

OURS = frozenset({"mlflow.sklearn", keras_model.__name__.rpartition(".")[2]})
"""Loaders of models that take a frame as it is and know their classes."""
FLOAT32_TOLERANCE = 1e-5
"""Relative: a network's sums depend on the processor and on the number of threads."""


@tracking.without_hints()
def log(fitted: Model, example: pd.DataFrame) -> str:
    """Log a fitted model to the active run; returns its URI.

    The metadata has a `smoke_test`: the rows of `example` and what the model says to them.
    """
    predicted = np.asarray(fitted.predict(example))
    smoke_test = {"inputs": json_values.as_split(example), "predictions": predicted.tolist()}
    common: dict[str, Any] = {
        "name": "model",
        "signature": _signature(example, predicted),
        "input_example": example,
    }
    if hasattr(fitting.inner(fitted), "network_"):
        smoke_test["tolerance"] = FLOAT32_TOLERANCE
        return _log_keras(fitted, common | {"metadata": {"smoke_test": smoke_test}})
    logged = mlflow.sklearn.log_model(
        fitted,
        serialization_format="skops",
        skops_trusted_types=fitting.trusted_types(fitted),
        pip_requirements=requirements(),
        metadata={"smoke_test": smoke_test},
        **common,
    )
    return str(logged.model_uri)


def _signature(example: pd.DataFrame, predicted: NDArray[Any]) -> ModelSignature:
    """By the columns' dtypes: MLflow would go by the values, of which none may be there.

    Every column is required, though its values may be null: the model needs them all.
    """
    kinds = example.dtypes.items()
    known = {name: 0.0 if is_numeric_dtype(kind) else "" for name, kind in kinds}
    return infer_signature(example.fillna(known), predicted)


def _log_keras(fitted: Model, common: dict[str, Any]) -> str:
    estimator = fitting.inner(fitted)
    classes = getattr(estimator, "classes_", None)
    with TemporaryDirectory() as made:
        folder = Path(made) / "network"
        keras_model.save(
            folder,
            fitted[0],
            estimator.network_,
            None if classes is None else classes.tolist(),
            threshold.of(fitted[-1]),
            rounded=rounding.is_rounded(fitted[-1]),
        )
        code = Path(str(keras_model.__file__))
        logged = mlflow.pyfunc.log_model(
            loader_module=code.stem,
            data_path=str(folder),
            code_paths=[str(code)],
            pip_requirements=requirements(("tensorflow", "keras")),
            **common,
        )
    return str(logged.model_uri)


def load(uri: str) -> Any:
    """What predicts: `predict(frame)`; a classifier has `predict_proba` and `classes_` too.

    A model that somebody logged by hand in another flavor has `predict` alone.
    """
    tracking.client()
    loaded = mlflow.pyfunc.load_model(uri, suppress_warnings=True)
    return loaded.get_raw_model() if loaded.loader_module in OURS else _Other(loaded)


def typed(rows: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The rows in the signature's types: a snapshot has doubles where a model may want integers."""
    wanted = {
        str(name): column.type.to_pandas()
        for name, column in schema.input_dict().items()
        if isinstance(column.type, DataType) and name in rows
    }
    return rows.reset_index(drop=True).astype(wanted)


class _Other:
    """A model of any flavor."""

    def __init__(self, loaded: PyFuncModel) -> None:
        self._loaded = loaded

    def predict(self, frame: pd.DataFrame) -> NDArray[Any]:
        """One value a row, `(rows,)`.

        Raises:
            ValueError: The model does not take these rows, or gives something else.
        """
        try:
            schema = self._loaded.metadata.get_input_schema()
            named = schema is not None and schema.has_input_names() and not schema.is_tensor_spec()
            found = np.asarray(self._loaded.predict(typed(frame, schema) if named else frame))
        except MlflowException as err:
            raise ValueError(str(err)) from err
        if found.size != len(frame):
            raise ValueError(f"It must give one value a row. Got an array {found.shape} instead.")
        return found.ravel()
