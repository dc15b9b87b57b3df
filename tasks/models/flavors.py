"""How models are stored in MLflow and loaded again.

A scikit-learn model uses MLflow's own flavor, in skops' format. A model with a Keras network is its
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

NATIVE_LOADERS = frozenset({"mlflow.sklearn", keras_model.__name__.rpartition(".")[2]})
"""Loaders of models that accept any frame and know their classes."""
FLOAT32_TOLERANCE = 1e-5
"""Relative: a network's sums depend on the processor and the number of threads."""


@tracking.without_hints()
def log(fitted: Model, example: pd.DataFrame) -> str:
    """Log a fitted model to the active run; returns its URI.

    The metadata has a `smoke_test`: the rows of `example` and the model's predictions for them.
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
    """Inferred from the columns' dtypes; MLflow would use the values, which may all be missing.

    Every column is required, although its values may be null.
    """
    kinds = example.dtypes.items()
    known = {name: 0.0 if is_numeric_dtype(kind) else "" for name, kind in kinds}
    return infer_signature(example.fillna(known), predicted)


def _log_keras(fitted: Model, common: dict[str, Any]) -> str:
    estimator = fitting.inner(fitted)
    classes = getattr(estimator, "classes_", None)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "network"
        keras_model.save(
            folder,
            fitted[0],
            estimator.network_,
            None if classes is None else classes.tolist(),
            threshold.fixed_threshold(fitted[-1]),
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


def load(model_uri: str) -> Any:
    """A model with `predict(frame)`; a classifier also has `predict_proba` and `classes_`.

    A model that was logged by hand in another flavor only has `predict`.
    """
    tracking.client()
    loaded = mlflow.pyfunc.load_model(model_uri, suppress_warnings=True)
    return loaded.get_raw_model() if loaded.loader_module in NATIVE_LOADERS else _AnyFlavor(loaded)


def cast(rows: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The rows in the signature's types: a model may want integers where a snapshot has doubles."""
    types = {
        str(name): column.type.to_pandas()
        for name, column in schema.input_dict().items()
        if isinstance(column.type, DataType) and name in rows
    }
    return rows.reset_index(drop=True).astype(types)


class _AnyFlavor:
    """A model of any flavor."""

    def __init__(self, loaded: PyFuncModel) -> None:
        self._loaded = loaded

    def predict(self, frame: pd.DataFrame) -> NDArray[Any]:
        """One value per row, `(rows,)`.

        Raises:
            ValueError: The model does not accept these rows, or returns something else.
        """
        try:
            schema = self._loaded.metadata.get_input_schema()
            named = schema is not None and schema.has_input_names() and not schema.is_tensor_spec()
            predicted = np.asarray(self._loaded.predict(cast(frame, schema) if named else frame))
        except MlflowException as err:
            raise ValueError(str(err)) from err
        if predicted.size != len(frame):
            raise ValueError(
                f"It must return one value per row. Got an array {predicted.shape} instead."
            )
        return predicted.ravel()
