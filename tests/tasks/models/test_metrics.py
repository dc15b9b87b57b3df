"""Metrics compared with scikit-learn's own functions on labels and probabilities."""

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


def test_the_greater_of_two_classes_is_the_positive_one() -> None:
    model = fitted(YES)
    scores = metrics.scores("binary", model, ROWS, YES)
    predicted, chance = model.predict(ROWS), model.predict_proba(ROWS)[:, 1]
    assert scores == pytest.approx(
        {
            "accuracy": sk.accuracy_score(YES, predicted),
            "auc": sk.roc_auc_score(YES, chance),
            "average_precision": sk.average_precision_score(YES, chance, pos_label="yes"),
            "f1": sk.f1_score(YES, predicted, pos_label="yes"),
            "precision": sk.precision_score(YES, predicted, pos_label="yes"),
            "recall": sk.recall_score(YES, predicted, pos_label="yes"),
            "log_loss": sk.log_loss(YES, chance),
            "brier": sk.brier_score_loss(YES, chance, pos_label="yes"),
        }
    )


def test_several_classes_count_equally_or_by_their_rows() -> None:
    model = fitted(CLASSES)
    scores = metrics.scores("multiclass", model, ROWS, CLASSES)
    predicted, chances = model.predict(ROWS), model.predict_proba(ROWS)
    each = pd.get_dummies(CLASSES)[model.classes_].to_numpy()
    assert scores == pytest.approx(
        {
            "accuracy": sk.accuracy_score(CLASSES, predicted),
            "auc": sk.roc_auc_score(CLASSES, chances, multi_class="ovr"),
            "auc_weighted": sk.roc_auc_score(
                CLASSES, chances, multi_class="ovr", average="weighted"
            ),
            "average_precision": sk.average_precision_score(each, chances),
            "average_precision_weighted": sk.average_precision_score(
                each, chances, average="weighted"
            ),
            "f1": sk.f1_score(CLASSES, predicted, average="macro"),
            "f1_weighted": sk.f1_score(CLASSES, predicted, average="weighted"),
            "precision": sk.precision_score(CLASSES, predicted, average="macro"),
            "precision_weighted": sk.precision_score(CLASSES, predicted, average="weighted"),
            "recall": sk.recall_score(CLASSES, predicted, average="macro"),
            "recall_weighted": sk.recall_score(CLASSES, predicted, average="weighted"),
            "log_loss": sk.log_loss(CLASSES, chances),
            "brier": np.mean(np.sum((chances - each) ** 2, axis=1)),
        }
    )


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_rows_without_some_class_are_still_scored(task: Any) -> None:
    truth = YES if task == "binary" else CLASSES
    single = truth == truth.iloc[0]
    scores = metrics.scores(task, fitted(truth), ROWS[single], truth[single])
    assert set(scores) == set(of_task(task))
    undefined = {name for name, figure in scores.items() if not metrics.is_finite(figure)}
    assert undefined == {"auc", "average_precision"} | (
        {"auc_weighted", "average_precision_weighted"} if task == "multiclass" else set()
    )


def test_a_class_that_the_model_never_saw_has_probability_0() -> None:
    model = DummyClassifier().fit(ROWS[YES == "no"], CLASSES[YES == "no"])
    outcome = metrics.predict(model, ROWS, CLASSES, "multiclass")
    assert outcome.probabilities.shape == (len(ROWS), 3)
    assert outcome.probabilities.any(axis=0).tolist() == [True, False, True]  # sorted by name
    assert metrics.score("log_loss", outcome) > 1


def test_calibration_error_is_the_distance_of_probabilities_from_shares() -> None:
    """Ten bins of 100 rows; each has 5 more hits than predicted."""
    chances = np.repeat(np.linspace(0.05, 0.85, 10), 100) + np.tile([-0.01, 0.01], 500)
    hits = np.concatenate([np.arange(100) < 100 * c + 5 for c in np.linspace(0.05, 0.85, 10)])
    outcome = metrics.Outcome(hits.astype(int), hits.astype(int), both(chances), (1,))
    assert metrics.score("calibration_error", outcome) == pytest.approx(0.05, abs=0.006)
    order = np.random.default_rng(0).permutation(1000)
    mixed = metrics.Outcome(
        outcome.truth[order], outcome.predicted[order], outcome.probabilities[order], (1,)
    )
    same = metrics.score("calibration_error", outcome)
    assert metrics.score("calibration_error", mixed) == pytest.approx(same)


def test_calibration_error_sees_what_the_ranking_does_not() -> None:
    rng = np.random.default_rng(1)
    chances = rng.uniform(size=5000)
    truth = (rng.random(5000) < chances).astype(int)

    def figures(predicted: Any) -> tuple[float, float]:
        outcome = metrics.Outcome(truth, truth, both(predicted), (1,))
        return metrics.score("auc", outcome), metrics.score("calibration_error", outcome)

    honest, bold = figures(chances), figures(np.clip(chances * 1.3 - 0.15, 0, 1))
    assert honest[1] < 0.02
    assert bold[1] > 0.05
    assert bold[0] == pytest.approx(honest[0], abs=0.01)


def test_the_share_of_a_class_for_every_row_is_calibrated() -> None:
    outcome = metrics.Outcome(np.arange(40) % 4 == 0, np.zeros(40), both(np.full(40, 0.25)), (1,))
    assert metrics.score("calibration_error", outcome) == pytest.approx(0)


def test_calibration_error_counts_rows_by_their_weights_and_averages_classes() -> None:
    chances = np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3]])
    outcome = metrics.Outcome(np.array([0, 1]), np.array([0, 1]), chances, (0, 1, 2))
    each = [(0.2 + 0.1) / 2, (0.1 + 0.4) / 2, (0.1 + 0.3) / 2]
    assert metrics.score("calibration_error", outcome) == pytest.approx(np.mean(each))
    first = metrics.score("calibration_error", outcome, np.array([1.0, 0.0]))
    assert first == pytest.approx(np.mean([0.2, 0.1, 0.1]))


def both(chances: Any) -> Any:
    return np.stack([1 - chances, chances], axis=1)
