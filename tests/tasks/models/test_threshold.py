from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import Pipeline as Model

from tasks.base.errors import UserError
from tasks.base.settings import REPOSITORY
from tasks.models import fitting, threshold
from tasks.pipeline.schema import Pipeline

PATIENTS = pd.read_csv(REPOSITORY / "tests" / "data" / "azure-lab-diabetes.csv").head(1500)
FEATURES = ["PlasmaGlucose", "BMI", "Age", "Pregnancies"]
POINT = {"estimator": "logistic_regression", "reg_rate": 0.1}
SCORES = {"f1": f1_score, "accuracy": accuracy_score}


def pipeline(**changes: object) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "risk",
            "description": "",
            "owner": "",
            "data": {
                "sources": [{"uri": "file:///none.csv"}],
                "target": "Diabetic",
                "task": "binary",
                "columns": {name: {} for name in (*FEATURES, "Diabetic")},
                **changes.pop("data", {}),  # type: ignore[dict-item]
            },
            "search": {"space": POINT},
            "metric": {"name": "auc", "direction": "maximize"},
            **changes,
        }
    )


def rows(part: pd.DataFrame) -> fitting.Rows:
    return fitting.Rows(part[FEATURES], part["Diabetic"])


FIT, VALIDATION = rows(PATIENTS[:1000]), rows(PATIENTS[1000:])


class Probabilities:
    """A model that returns its features as probabilities."""

    classes_ = np.array([0, 1])

    def predict_proba(self, chances: np.ndarray) -> np.ndarray:
        return np.stack([1 - chances, chances], axis=1)


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=1)
)
def test_no_other_threshold_is_better(metric: str, pairs: list[tuple[float, bool]]) -> None:
    chances, truth = (np.array(column) for column in zip(*pairs, strict=True))
    truth = truth.astype(int)
    if not truth.any():
        truth[0] = 1

    chosen = threshold.best(metric, Probabilities(), chances, truth)  # type: ignore[arg-type]

    score = SCORES[metric]
    others = [score(truth, chances >= edge) for edge in (0.05, 0.15, 0.3, 0.6, 0.8)]
    assert 0 <= chosen <= 1
    assert score(truth, chances >= chosen) >= max(others) - 1e-12


def test_the_model_uses_the_threshold_of_its_validation_rows() -> None:
    fitted = fitting.fit(
        pipeline(threshold={"maximize": "f1"}), POINT, FIT, VALIDATION, seed=0, threads=1
    )
    plain = fitting.fit(pipeline(), POINT, FIT, VALIDATION, seed=0, threads=1)

    chances = fitted.model.predict_proba(VALIDATION.features)
    np.testing.assert_array_equal(chances, plain.model.predict_proba(VALIDATION.features))
    chosen = fitted.chosen["threshold"]
    assert chosen < 0.5  # a third of the patients is ill
    np.testing.assert_array_equal(
        fitted.model.predict(VALIDATION.features), (chances[:, 1] >= chosen).astype(int)
    )
    assert plain.chosen == {}


def test_a_refit_uses_the_chosen_threshold() -> None:
    config = pipeline(threshold={"maximize": "f1"})

    refitted = fitting.refit(config, POINT, FIT, {"threshold": 0.9}, seed=0, threads=1)

    chances = refitted.predict_proba(VALIDATION.features)[:, 1]
    np.testing.assert_array_equal(refitted.predict(VALIDATION.features), chances >= 0.9)


def test_it_is_saved_without_a_pickle() -> None:
    built: Model = fitting.refit(pipeline(threshold=0.3), POINT, FIT, {}, seed=0, threads=1)

    data = skops.io.dumps(built)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(fitting.trusted_types(built))
    again = skops.io.loads(data, trusted=fitting.trusted_types(built))

    np.testing.assert_array_equal(
        again.predict(VALIDATION.features), built.predict(VALIDATION.features)
    )


def test_labels_may_be_texts() -> None:
    words = FIT.truth.map({0: "no", 1: "yes"})
    config = pipeline(threshold=0.2)

    built = fitting.refit(config, POINT, fitting.Rows(FIT.features, words), {}, seed=0, threads=1)

    chances = built.predict_proba(VALIDATION.features)[:, 1]
    assert list(built.classes_) == ["no", "yes"]
    np.testing.assert_array_equal(built.predict(VALIDATION.features) == "yes", chances >= 0.2)


@pytest.mark.parametrize("weights", ["balanced", {"0": 1, "1": 2.0}])
def test_class_weights_make_the_rare_class_likelier(weights: object) -> None:
    plain, weighted = (
        fitting.refit(pipeline(data={"class_weights": choice}), POINT, FIT, {}, seed=0, threads=1)
        for choice in (None, weights)
    )

    before, after = (model.predict_proba(VALIDATION.features)[:, 1] for model in (plain, weighted))
    assert (after > before).all()


@pytest.mark.parametrize("weights", [{"1": 2.0}, {"0": 1, "1": 2, "2": 3}])
def test_weights_of_other_classes_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must name the classes of 'Diabetic', '0', '1'"):
        fitting.check_class_weights(pipeline(data={"class_weights": weights}), FIT.truth)


def test_classes_of_a_boolean_are_true_and_false() -> None:
    columns = {name: {} for name in FEATURES} | {"Diabetic": {"type": "boolean"}}
    weights = {"true": 3, "false": 1}
    config = pipeline(data={"class_weights": weights, "columns": columns})

    fitting.check_class_weights(config, FIT.truth)
    built = fitting.refit(config, POINT, FIT, {}, seed=0, threads=1)

    plain = fitting.refit(pipeline(), POINT, FIT, {}, seed=0, threads=1)
    before, after = (model.predict_proba(VALIDATION.features)[:, 1] for model in (plain, built))
    assert (after > before).all()


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
def test_validation_rows_of_one_class_decide_something(metric: str) -> None:
    chances = np.array([0.1, 0.4, 0.9])

    chosen = threshold.best(metric, Probabilities(), chances, np.zeros(3))  # type: ignore[arg-type]

    assert 0 < chosen < 1
