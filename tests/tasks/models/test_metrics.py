"""Figures against scikit-learn's own functions on labels and probabilities as a user has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from tasks.models import metrics
from tasks.pipeline.metrics import of_task

WINE = load_wine(as_frame=True)
ROWS = WINE.data[["alcohol", "malic_acid", "ash"]]
CLASSES = WINE.target.map({0: "barolo", 1: "grignolino", 2: "barbera"})
YES = (CLASSES == "barolo").map({True: "yes", False: "no"})


def fitted(truth: pd.Series[Any]) -> Any:
    return LogisticRegression(max_iter=1000).fit(ROWS, truth)


def test_of_two_classes_the_greater_is_the_one_looked_for() -> None:
    model = fitted(YES)
    found = metrics.scores("binary", model, ROWS, YES)
    said, chance = model.predict(ROWS), model.predict_proba(ROWS)[:, 1]
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(YES, said),
            "auc": sk.roc_auc_score(YES, chance),
            "average_precision": sk.average_precision_score(YES, chance, pos_label="yes"),
            "f1": sk.f1_score(YES, said, pos_label="yes"),
            "precision": sk.precision_score(YES, said, pos_label="yes"),
            "recall": sk.recall_score(YES, said, pos_label="yes"),
            "log_loss": sk.log_loss(YES, chance),
            "brier": sk.brier_score_loss(YES, chance, pos_label="yes"),
        }
    )


def test_of_several_classes_each_counts_the_same_or_by_its_rows() -> None:
    model = fitted(CLASSES)
    found = metrics.scores("multiclass", model, ROWS, CLASSES)
    said, chances = model.predict(ROWS), model.predict_proba(ROWS)
    each = pd.get_dummies(CLASSES)[model.classes_].to_numpy()
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(CLASSES, said),
            "auc": sk.roc_auc_score(CLASSES, chances, multi_class="ovr"),
            "auc_weighted": sk.roc_auc_score(
                CLASSES, chances, multi_class="ovr", average="weighted"
            ),
            "average_precision": sk.average_precision_score(each, chances),
            "average_precision_weighted": sk.average_precision_score(
                each, chances, average="weighted"
            ),
            "f1": sk.f1_score(CLASSES, said, average="macro"),
            "f1_weighted": sk.f1_score(CLASSES, said, average="weighted"),
            "precision": sk.precision_score(CLASSES, said, average="macro"),
            "precision_weighted": sk.precision_score(CLASSES, said, average="weighted"),
            "recall": sk.recall_score(CLASSES, said, average="macro"),
            "recall_weighted": sk.recall_score(CLASSES, said, average="weighted"),
            "log_loss": sk.log_loss(CLASSES, chances),
            "brier": np.mean(np.sum((chances - each) ** 2, axis=1)),
        }
    )


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_rows_that_lack_a_class_are_scored_all_the_same(task: Any) -> None:
    truth = YES if task == "binary" else CLASSES
    one = truth == truth.iloc[0]
    found = metrics.scores(task, fitted(truth), ROWS[one], truth[one])
    assert set(found) == set(of_task(task))
    undefined = {name for name, figure in found.items() if not metrics.is_finite(figure)}
    assert undefined == {"auc", "average_precision"} | (
        {"auc_weighted", "average_precision_weighted"} if task == "multiclass" else set()
    )


def test_a_class_that_the_model_never_saw_had_no_chance() -> None:
    model = DummyClassifier().fit(ROWS[YES == "no"], CLASSES[YES == "no"])
    found = metrics.predict(model, ROWS, CLASSES, "multiclass")
    assert found.probabilities.shape == (len(ROWS), 3)
    assert found.probabilities.any(axis=0).tolist() == [True, False, True]  # sorted by name
    assert metrics.score("log_loss", found) > 1


def test_calibration_error_is_the_distance_of_chances_from_shares() -> None:
    """Ten bins of 100 rows, in each of which 5 rows in 100 more are hits than was said."""
    chances = np.repeat(np.linspace(0.05, 0.85, 10), 100) + np.tile([-0.01, 0.01], 500)
    hits = np.concatenate([np.arange(100) < 100 * c + 5 for c in np.linspace(0.05, 0.85, 10)])
    found = metrics.Outcome(hits.astype(int), hits.astype(int), both(chances), (1,))
    assert metrics.score("calibration_error", found) == pytest.approx(0.05, abs=0.006)
    order = np.random.default_rng(0).permutation(1000)
    mixed = metrics.Outcome(
        found.truth[order], found.predicted[order], found.probabilities[order], (1,)
    )
    same = metrics.score("calibration_error", found)
    assert metrics.score("calibration_error", mixed) == pytest.approx(same)


def test_calibration_error_sees_what_the_ranking_does_not() -> None:
    rng = np.random.default_rng(1)
    chances = rng.uniform(size=5000)
    truth = (rng.random(5000) < chances).astype(int)

    def figures(said: Any) -> tuple[float, float]:
        found = metrics.Outcome(truth, truth, both(said), (1,))
        return metrics.score("auc", found), metrics.score("calibration_error", found)

    honest, bold = figures(chances), figures(np.clip(chances * 1.3 - 0.15, 0, 1))
    assert honest[1] < 0.02
    assert bold[1] > 0.05
    assert bold[0] == pytest.approx(honest[0], abs=0.01)


def test_the_share_of_a_class_for_every_row_is_calibrated() -> None:
    found = metrics.Outcome(np.arange(40) % 4 == 0, np.zeros(40), both(np.full(40, 0.25)), (1,))
    assert metrics.score("calibration_error", found) == pytest.approx(0)


def test_calibration_error_counts_rows_by_their_weights_and_averages_classes() -> None:
    chances = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3]])
    found = metrics.Outcome(np.array([0, 1]), np.array([0, 1]), chances, (0, 1, 2))
    each = [(0.2 + 0.1) / 2, (0.1 + 0.4) / 2, (0.1 + 0.3) / 2]
    assert metrics.score("calibration_error", found) == pytest.approx(np.mean(each))
    first = metrics.score("calibration_error", found, np.array([1.0, 0.0]))
    assert first == pytest.approx(np.mean([0.2, 0.1, 0.1]))


def both(chances: Any) -> Any:
    return np.stack([1 - chances, chances], axis=1)
