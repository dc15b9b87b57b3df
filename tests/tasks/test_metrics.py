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

from tasks import metrics
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
            "average_precision": sk.average_precision_score(each, chances),
            "f1": sk.f1_score(CLASSES, said, average="macro"),
            "f1_weighted": sk.f1_score(CLASSES, said, average="weighted"),
            "precision": sk.precision_score(CLASSES, said, average="macro"),
            "recall": sk.recall_score(CLASSES, said, average="macro"),
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
    assert undefined == {"auc", "average_precision"}


def test_a_class_that_the_model_never_saw_had_no_chance() -> None:
    model = DummyClassifier().fit(ROWS[YES == "no"], CLASSES[YES == "no"])
    found = metrics.outcome(model, ROWS, CLASSES, "multiclass")
    assert found.probabilities.shape == (len(ROWS), 3)
    assert found.probabilities.any(axis=0).tolist() == [True, False, True]  # sorted by name
    assert metrics.score("log_loss", found) > 1
