"""Rows in, predictions out: the loaded model, protected by the protocol's checks."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc import PyFuncModel

from tasks.serving.server.payload import MLFLOW, Reader
from tasks.serving.server.signature import RequestError, names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scorer:
    """A model that answers requests; `answer` may be called from several threads."""

    model: PyFuncModel
    reader: Reader
    run_id: str
    classifier: Any = None
    """Has `predict_proba` and `classes_`; set if responses include probabilities."""

    @classmethod
    def load(cls, folder: Path, *, probabilities: bool = False) -> Scorer:
        """Load a model in MLflow's format."""
        model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
        classifier = None
        if probabilities:
            classifier = model.get_raw_model()
            if not hasattr(classifier, "predict_proba"):
                raise SystemExit(
                    "The model has no probabilities: set serving.probabilities to false."
                )
        reader = Reader.from_schema(model.metadata.get_input_schema())
        return cls(model, reader, model.metadata.run_id or "", classifier)

    def answer(self, body: bytes, content_type: str | None) -> str:
        """The JSON body of the response to one request.

        Raises:
            RequestError: The request cannot be answered.
        """
        payload = self.reader.read(body, content_type)
        try:
            predictions = self.model.predict(payload.data, params=payload.params)
            probabilities = self._probabilities(payload.data)
        except MlflowException as err:  # MLflow enforces the signature again, on the parsed rows
            raise self.reader.mismatch() from err
        except (ValueError, TypeError, ArithmeticError) as err:
            log.warning("the model rejected a request", exc_info=True)
            raise _refusal(payload.data) from err
        text = StringIO()
        MLFLOW.predictions_to_json(predictions, text)
        values = json.loads(text.getvalue(), parse_constant=_not_finite)["predictions"]
        if isinstance(payload.data, pd.DataFrame) and len(values) != len(payload.data):
            raise RequestError("The model does not return one prediction per row.")
        if probabilities:
            return json.dumps({"predictions": values, **probabilities}, allow_nan=False)
        return text.getvalue()

    def _probabilities(self, data: Any) -> dict[str, Any]:
        """`classes`, and `probabilities` in their order, a list per row; empty if not asked for."""
        if self.classifier is None:
            return {}
        if self.reader.schema is not None:  # as MLflow's own `predict` does
            data = _enforce_schema(data, self.reader.schema)
        return {
            "classes": np.asarray(self.classifier.classes_).tolist(),
            "probabilities": np.asarray(self.classifier.predict_proba(data)).tolist(),
        }


def _not_finite(_: str) -> NoReturn:
    raise RequestError("A prediction is not a finite number, which JSON cannot carry.")


def _refusal(data: Any) -> RequestError:
    """Why a model may have raised an error. Its own message could repeat the input."""
    if isinstance(data, pd.DataFrame):
        missing = [str(name) for name in data if data[name].isna().any()]
        infinite = [
            str(name) for name in data.select_dtypes("number") if np.isinf(data[name]).any()
        ]
        for what, columns in (("missing", missing), ("infinite", infinite)):
            if columns:
                return RequestError(f"The model does not accept {what} values: {names(columns)}.")
    return RequestError("The model cannot score these values.")
