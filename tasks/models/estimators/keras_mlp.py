"""A network of two hidden layers, trained by gradient descent with Keras.

This module does not import Keras or TensorFlow at the top: checking a space that names the family
does not need them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tasks.models import keras_model
from tasks.models.family import Family

Validation = Callable[[], tuple[ArrayLike, ArrayLike]]
RMSE = "rmse_epoch"
"""Not `rmse`: MLflow would treat the last epoch's `val_rmse` as the trial's own figure."""


class KerasMLP(ABC, BaseEstimator):  # type: ignore[misc]
    """What the regressor and the classifier share. Inputs are first scaled to mean 0, deviation 1.

    With `validation`, training ends when the loss on those rows has not improved for `patience`
    epochs, and the weights of the best epoch are kept. Without it, training ends after `epochs`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - scikit-learn reads them from here
        self,
        units_1: int = 64,
        units_2: int = 64,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        batch_size: int = 64,
        epochs: int = 100,
        patience: int = 10,
        random_state: int | None = None,
    ) -> None:
        self.units_1 = units_1
        self.units_2 = units_2
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.random_state = random_state

    @abstractmethod
    def _last(self, keras: Any) -> tuple[Any, str, list[Any]]:
        """The last layer, the loss, and further metrics to record per epoch."""

    def _check(self) -> None:
        """Keras fails on some of these with unclear errors, and takes a batch size of 0 as 32."""
        for name in ("units_1", "units_2", "batch_size", "epochs"):
            value = getattr(self, name)
            if int(value) < 1:
                raise ValueError(
                    f"The {name!r} parameter of {type(self).__name__} must be at least 1. "
                    f"Got {value!r} instead."
                )

    def _train(
        self,
        rows: NDArray[np.float32],
        truth: NDArray[Any],
        weights: ArrayLike | None,
        validation: tuple[Any, Any] | None,
    ) -> Any:
        """The trained network. Sets `curves_` and `chosen_`."""
        self._check()
        keras = _seeded(check_random_state(self.random_state).randint(2**31 - 1))
        layers = keras.layers
        normalization = layers.Normalization()
        normalization.adapt(rows)
        last, loss, metrics = self._last(keras)
        network = keras.Sequential(
            [
                keras.Input(rows.shape[1:]),
                normalization,
                layers.Dense(int(self.units_1), activation="relu"),
                layers.Dense(int(self.units_2), activation="relu"),
                last,
            ]
        )
        network.compile(
            optimizer=keras.optimizers.SGD(self.learning_rate, momentum=self.momentum),
            loss=loss,
            metrics=metrics,
        )
        stopping = keras.callbacks.EarlyStopping(
            patience=int(self.patience), restore_best_weights=True
        )
        history = network.fit(
            rows,
            truth,
            batch_size=int(self.batch_size),
            epochs=int(self.epochs),
            sample_weight=None if weights is None else np.asarray(weights),
            validation_data=validation,
            callbacks=[] if validation is None else [stopping],
            verbose=0,
        ).history
        decisive = history["loss"][-1:] if validation is None else history["val_loss"]
        if not np.isfinite(decisive).any():
            raise ValueError("The loss is not finite: the learning rate is too high.")
        self.curves_ = {
            name if name.startswith("val_") else f"training_{name}": curve
            for name, curve in history.items()
        }
        self.chosen_: dict[str, float] = {}
        if validation is not None:
            self.chosen_["best_epoch"] = int(np.nanargmin(decisive)) + 1
        return network

    def _outputs(self, X: ArrayLike) -> NDArray[np.float64]:
        check_is_fitted(self)
        return keras_model.outputs(self.network_, validate_data(self, X, reset=False))


class KerasMLPRegressor(RegressorMixin, KerasMLP):  # type: ignore[misc]
    """Least squares."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        validation: Validation | None = None,
    ) -> Self:
        """`X` is `(rows, columns)`, `y` and `sample_weight` are `(rows,)`.

        The network learns `y` standardized, so that a learning rate does not depend on the unit of
        `y`; a last layer scales the predictions back.
        """
        rows, truth = validate_data(self, X, y, dtype=np.float32, y_numeric=True)
        mean, scale = float(np.mean(truth)), float(np.std(truth)) or 1.0
        held_out = None
        if validation is not None:
            features, target = validation()
            held_out = (
                np.asarray(features, np.float32),
                (np.asarray(target, np.float32) - mean) / scale,
            )
        network = self._train(rows, (truth - mean) / scale, sample_weight, held_out)
        units = {"loss": scale**2, RMSE: scale}
        self.curves_ = {
            name: [value * units[name.partition("_")[2]] for value in curve]
            for name, curve in self.curves_.items()
        }
        keras = keras_model.library()
        self.network_ = keras.Sequential(
            [
                keras.Input(rows.shape[1:]),
                *network.layers,
                keras.layers.Rescaling(scale, offset=mean),
            ]
        )
        return self

    def _last(self, keras: Any) -> tuple[Any, str, list[Any]]:
        return keras.layers.Dense(1), "mse", [keras.metrics.RootMeanSquaredError(name=RMSE)]

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """`(rows,)`."""
        return self._outputs(X)[:, 0]


class KerasMLPClassifier(ClassifierMixin, KerasMLP):  # type: ignore[misc]
    """Cross-entropy, for two or more classes."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        validation: Validation | None = None,
    ) -> Self:
        """`X` is `(rows, columns)`, `y` and `sample_weight` are `(rows,)`."""
        rows, truth = validate_data(self, X, y, dtype=np.float32)
        self.classes_, coded = np.unique(truth, return_inverse=True)
        held_out = None
        if validation is not None:
            features, labels = map(np.asarray, validation())
            known = np.isin(labels, self.classes_)  # a fold may have a class that no other has
            codes = np.searchsorted(self.classes_, labels[known])
            held_out = features[known].astype(np.float32), codes.astype(np.float32)
        self.network_ = self._train(rows, coded.astype(np.float32), sample_weight, held_out)
        return self

    def _last(self, keras: Any) -> tuple[Any, str, list[Any]]:
        if len(self.classes_) == 2:
            return keras.layers.Dense(1, activation="sigmoid"), "binary_crossentropy", []
        last = keras.layers.Dense(len(self.classes_), activation="softmax")
        return last, "sparse_categorical_crossentropy", []

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """`(rows, classes)`."""
        return keras_model.probabilities(self._outputs(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """`(rows,)`: the likeliest class of each row."""
        return keras_model.decide(self.predict_proba(X), self.classes_, None)


def _seeded(seed: int) -> Any:
    """Keras, with its randomness fixed by the seed and the state of the last fit cleared."""
    keras = keras_model.library()
    import tensorflow as tf

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    return keras


FAMILY = Family(
    regression=KerasMLPRegressor,
    binary=KerasMLPClassifier,
    multiclass=KerasMLPClassifier,
    threads=None,  # TensorFlow sets them for the whole process
    validates=True,
    chosen={"best_epoch": "epochs"},
)
