"""A registered Keras model: scikit-learn's preparation, then the network, without a pickle.

MLflow copies this file into the model (`code_paths`) and imports it from there as a module of its
own, so it must not need the rest of this project. A process that has loaded one such model uses its
copy for the next one: if the meaning of a model's files changes, this module needs a new name.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from numpy.typing import NDArray
from sklearn.utils import check_array

PREPARATION, NETWORK, ABOUT = "preparation.skops", "network.keras", "about.json"
TRUSTED_TYPES = ("numpy.dtype",)
"""SimpleImputer keeps the dtype it was fitted on; skops saves it as an empty array."""
BATCH = 4096
CHATTER = re.compile(rb"I\d{4} |WARNING: All log messages before absl::InitializeLog")
"""TensorFlow's notes, e.g. that there is no GPU, and the warning that it prints with them."""


class KerasModel:
    """Predicts from a frame with the model's columns."""

    def __init__(
        self,
        preparation: Any,
        network: Any,
        classes: list[Any] | None,
        threshold: float | None,
        *,
        rounded: bool = False,
    ) -> None:
        self._preparation, self._network = preparation, network
        self._threshold, self._rounded = threshold, rounded
        if classes is not None:
            self.classes_ = np.array(classes)
            self.predict_proba = self._probabilities

    def predict(self, frame: pd.DataFrame) -> NDArray[Any]:
        """Numbers or labels, `(rows,)`."""
        values = outputs(self._network, self._preparation.transform(frame))
        if not hasattr(self, "classes_"):
            return np.rint(values[:, 0]) if self._rounded else values[:, 0]
        return decide(probabilities(values), self.classes_, self._threshold)

    def _probabilities(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        return probabilities(outputs(self._network, self._preparation.transform(frame)))

    def get_raw_model(self) -> KerasModel:
        """Called by MLflow's `get_raw_model`: unlike pyfunc, this has probabilities."""
        return self


def library() -> Any:
    """Keras, imported at the first call because that takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # failures are raised as well
    if "keras" in sys.modules or not hasattr(os, "memfd_create"):
        import keras

        return keras
    with _without_chatter():
        import keras
    return keras


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep TensorFlow's notes out of the log: no setting of 2.21 silences its import.

    Everything else written to standard error is passed on afterwards.
    """
    stderr = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "w+b") as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured:
                if not CHATTER.match(line):
                    os.write(2, line)


def outputs(network: Any, rows: Any) -> NDArray[np.float64]:
    """The last layer's values, `(rows, units)`.

    The network is called directly, which takes 3 ms for one row; its `predict` takes 100.
    """
    inputs = check_array(rows, dtype=np.float32)
    batches = [
        np.asarray(network(inputs[first : first + BATCH], training=False))
        for first in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(batches).astype(np.float64)


def probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """One column per class; for two classes, `values` has only the greater one's."""
    if values.shape[1] == 1:
        return np.hstack([1 - values, values])
    normalized: NDArray[np.float64] = values / values.sum(axis=1, keepdims=True)  # were 32-bit
    return normalized


def decide(
    chances: NDArray[np.float64], classes: NDArray[Any], threshold: float | None
) -> NDArray[Any]:
    """The label of each row: the likeliest, or of two labels by the threshold of the greater."""
    index = chances.argmax(axis=1) if threshold is None else chances[:, 1] >= threshold
    return np.asarray(classes[index.astype(int)])


def save(  # noqa: PLR0913 - all that `KerasModel` consists of
    folder: Path,
    preparation: Any,
    network: Any,
    classes: list[Any] | None,
    threshold: float | None,
    *,
    rounded: bool,
) -> None:
    """Write what `_load_pyfunc` reads."""
    folder.mkdir()
    skops.io.dump(preparation, folder / PREPARATION)
    network.save(folder / NETWORK)
    about = {"classes": classes, "threshold": threshold, "rounded": rounded}
    (folder / ABOUT).write_text(json.dumps(about))


def _load_pyfunc(path: str) -> KerasModel:
    """Called by `mlflow.pyfunc.load_model`. Neither file can contain code."""
    folder = Path(path)
    return KerasModel(
        skops.io.load(folder / PREPARATION, trusted=list(TRUSTED_TYPES)),
        library().saving.load_model(folder / NETWORK, compile=False, safe_mode=True),
        **json.loads((folder / ABOUT).read_text()),
    )
