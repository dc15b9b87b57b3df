"""A registered Keras model: scikit-learn's preparation, then the network, without a pickle.

MLflow copies this file into the model (`code_paths`) and imports it from there as a module of its
own, where nothing else of this project need be. A process that has loaded one such model uses its
copy for the next: what the files of a model mean may only change under a new name.
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
"""TensorFlow's notes, such as that there is no GPU, and the warning that it prints with them."""


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
        found = outputs(self._network, self._preparation.transform(frame))
        if not hasattr(self, "classes_"):
            return np.rint(found[:, 0]) if self._rounded else found[:, 0]
        return decided(probabilities(found), self.classes_, self._threshold)

    def _probabilities(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        return probabilities(outputs(self._network, self._preparation.transform(frame)))

    def get_raw_model(self) -> KerasModel:
        """What MLflow's `get_raw_model` gives: with probabilities, which pyfunc has not."""
        return self


def library() -> Any:
    """Keras, imported by the first call: it takes seconds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what fails is raised as well
    if "keras" in sys.modules or not hasattr(os, "memfd_create"):
        import keras

        return keras
    with _without_chatter():
        import keras
    return keras


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what TensorFlow says of itself out of the log: no setting of 2.21 silences its import.

    All else that is written to standard error meanwhile comes out afterwards.
    """
    kept = os.dup(2)
    with os.fdopen(os.memfd_create("stderr"), "w+b") as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said:
                if not CHATTER.match(line):
                    os.write(2, line)


def outputs(network: Any, rows: Any) -> NDArray[np.float64]:
    """The last layer's values, `(rows, units)`.

    The network is called directly: its `predict` would take 100 ms for one row, this takes 3.
    """
    given = check_array(rows, dtype=np.float32)
    batches = [
        np.asarray(network(given[first : first + BATCH], training=False))
        for first in range(0, len(given), BATCH)
    ]
    return np.concatenate(batches).astype(np.float64)


def probabilities(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """One column a class, from the outputs: of two classes there is that of the greater alone."""
    if found.shape[1] == 1:
        return np.hstack([1 - found, found])
    shares: NDArray[np.float64] = found / found.sum(axis=1, keepdims=True)  # of 32-bit numbers
    return shares


def decided(
    chances: NDArray[np.float64], classes: NDArray[Any], threshold: float | None
) -> NDArray[Any]:
    """The label of each row: the likeliest, or of two by the threshold of the greater."""
    hit = chances.argmax(axis=1) if threshold is None else chances[:, 1] >= threshold
    return np.asarray(classes[hit.astype(int)])


def save(  # noqa: PLR0913 - what `KerasModel` is made of
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
    """Called by `mlflow.pyfunc.load_model`. Neither file can bring code with it."""
    folder = Path(path)
    return KerasModel(
        skops.io.load(folder / PREPARATION, trusted=list(TRUSTED_TYPES)),
        library().saving.load_model(folder / NETWORK, compile=False, safe_mode=True),
        **json.loads((folder / ABOUT).read_text()),
    )
