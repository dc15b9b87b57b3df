from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss, mean_squared_error

from tasks.base.settings import REPOSITORY
from tasks.models.estimators.keras_mlp import KerasMLPClassifier, KerasMLPRegressor

ROWS, TRUTH = load_diabetes(return_X_y=True)
IRIS, KINDS = load_iris(return_X_y=True)
EACH_EPOCH = ("loss", "rmse_epoch")
FEW: dict[str, Any] = {"units_1": 16, "units_2": 16, "batch_size": 32, "random_state": 1}


def validation() -> tuple[Any, Any]:
    return ROWS[300:], TRUTH[300:]


def test_the_module_does_not_import_its_library() -> None:
    code = (
        "import sys; from tasks.models import estimators;"
        "estimators.get('keras_mlp').defaults('binary');"
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "set()"


NOISE = """
import os
from tasks.models import keras_model
with keras_model._without_chatter():
    os.write(2, b"I0000 00:00:1 port.cc:153] a note\\nreal trouble\\n")
keras_model.library()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere TensorFlow's notes are shown")
def test_importing_the_library_is_silent_but_hides_no_errors() -> None:
    result = subprocess.run(
        [sys.executable, "-c", NOISE], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert result.stderr == "real trouble\n"


def test_it_stops_early_with_the_weights_of_the_best_epoch() -> None:
    network = KerasMLPRegressor(**FEW, learning_rate=0.05, patience=3)

    network.fit(ROWS[:300], TRUTH[:300], validation=validation)

    losses, best = network.curves_["val_loss"], network.chosen_["best_epoch"]
    assert best == np.argmin(losses) + 1
    assert len(losses) == len(network.curves_["training_loss"]) == best + 3 < 100
    error = mean_squared_error(TRUTH[300:], network.predict(ROWS[300:]))
    assert error == pytest.approx(losses[best - 1], rel=1e-4)
    assert network.score(ROWS[300:], TRUTH[300:]) > 0.4


def test_without_validation_it_trains_for_all_epochs() -> None:
    network = KerasMLPRegressor(**FEW, epochs=3).fit(ROWS, TRUTH)

    assert {name: len(curve) for name, curve in network.curves_.items()} == {
        "training_loss": 3, "training_rmse_epoch": 3,
    }  # fmt: skip
    assert network.chosen_ == {}


def test_a_regression_records_each_epochs_rmse_in_the_targets_unit() -> None:
    network = KerasMLPRegressor(**FEW, epochs=3)

    curves = network.fit(ROWS[:300], TRUTH[:300], validation=validation).curves_

    assert set(curves) == {
        f"{part}_{figure}" for part in ("training", "val") for figure in EACH_EPOCH
    }
    for part in ("training", "val"):
        np.testing.assert_allclose(
            curves[f"{part}_rmse_epoch"], np.sqrt(curves[f"{part}_loss"]), rtol=1e-5
        )


def test_the_targets_unit_does_not_matter() -> None:
    plain, scaled = (
        KerasMLPRegressor(**FEW, epochs=5).fit(ROWS, TRUTH * unit) for unit in (1, 1000)
    )

    np.testing.assert_allclose(scaled.predict(ROWS), plain.predict(ROWS) * 1000, rtol=1e-3)


def test_a_constant_target_is_learned() -> None:
    network = KerasMLPRegressor(**FEW, epochs=2).fit(ROWS, np.full(len(ROWS), 7.0))

    np.testing.assert_allclose(network.predict(ROWS), 7, atol=2)


def test_a_learning_rate_that_is_too_high_is_an_error() -> None:
    network = KerasMLPRegressor(**FEW | {"epochs": 3, "learning_rate": 1e6})

    with pytest.raises(ValueError, match="learning rate is too high"):
        network.fit(ROWS[:300], TRUTH[:300], validation=validation)


@pytest.mark.parametrize("name", ["units_1", "units_2", "batch_size", "epochs"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_one_is_an_error(name: str, value: int) -> None:
    network = KerasMLPRegressor(**FEW | {name: value})

    with pytest.raises(ValueError, match=rf"^The '{name}' parameter of KerasMLPRegressor must be"):
        network.fit(ROWS[:300], TRUTH[:300], validation=validation)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    network = KerasMLPRegressor(**FEW, epochs=1).fit(ROWS, TRUTH)

    with pytest.raises(ValueError, match=r"NaN|infinity"):
        network.predict(np.full((1, 10), bad))


def test_it_must_be_fitted_first() -> None:
    with pytest.raises(NotFittedError):
        KerasMLPRegressor().predict(ROWS)


@pytest.mark.parametrize("labels", [["a", "b", "b"], ["a", "b", "c"], [False, True, True]])
def test_classes(labels: list[Any]) -> None:
    truth = np.array(labels)[KINDS]
    network = KerasMLPClassifier(**FEW, epochs=20, learning_rate=0.05)

    network.fit(IRIS, truth, validation=lambda: (IRIS, truth))

    chances = network.predict_proba(IRIS)
    assert list(network.classes_) == sorted(set(labels))
    assert chances.shape == (150, len(set(labels)))
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(network.predict(IRIS), network.classes_[chances.argmax(axis=1)])
    assert network.score(IRIS, truth) > 0.9
    assert log_loss(truth, chances) == pytest.approx(min(network.curves_["val_loss"]), rel=1e-3)


def test_a_class_that_only_validation_rows_have_is_left_out_of_the_loss() -> None:
    known = KINDS < 2
    network = KerasMLPClassifier(**FEW, epochs=2)

    network.fit(IRIS[known], KINDS[known], validation=lambda: (IRIS, KINDS))

    few = network.predict_proba(IRIS[known])
    assert log_loss(KINDS[known], few) == pytest.approx(min(network.curves_["val_loss"]), rel=1e-3)


def test_weights_change_the_predictions() -> None:
    plain, weighted = (
        KerasMLPClassifier(**FEW, epochs=5).fit(IRIS, KINDS > 1, sample_weight=weights)
        for weights in (None, np.where(KINDS > 1, 5.0, 1.0))
    )

    assert weighted.predict_proba(IRIS)[:, 1].mean() > plain.predict_proba(IRIS)[:, 1].mean()
