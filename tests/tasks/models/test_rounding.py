from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io

from tasks.base.settings import REPOSITORY, Settings
from tasks.clients import tracking
from tasks.models import fitting, flavors
from tasks.pipeline.rules import RULES
from tasks.pipeline.schema import Pipeline

WINES = pd.read_csv(REPOSITORY / "tests" / "data" / "winequality-red.csv", sep=";").head(600)
FEATURES = ("alcohol", "sulphates", "volatile acidity")
FOREST = {"estimator": "extra_trees", "n_estimators": 20}
NETWORK = {"estimator": "keras_mlp", "units_1": 8, "units_2": 8, "epochs": 3, "patience": 2}


def pipeline(*, rounded: bool) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "wine",
            "description": "",
            "owner": "",
            "data": {
                "sources": [{"uri": "file:///none.csv"}],
                "target": "quality",
                "task": "regression",
                "columns": {name: {} for name in (*FEATURES, "quality")},
            },
            "search": {"space": FOREST},
            "metric": {"name": "mae", "direction": "minimize"},
            "rounded": rounded,
        }
    )


def rows(part: pd.DataFrame) -> fitting.Rows:
    return fitting.Rows.from_part(pipeline(rounded=True), part)


FIT, OTHERS = rows(WINES[:400]), rows(WINES[400:])


@pytest.mark.parametrize("params", [FOREST, NETWORK])
def test_predictions_are_those_of_the_same_fit_rounded(params: dict[str, Any]) -> None:
    exact, whole = (
        fitting.fit(pipeline(rounded=rounded), params, FIT, OTHERS, seed=1, threads=1)
        for rounded in (False, True)
    )

    answers = exact.model.predict(OTHERS.features)
    assert (answers % 1 != 0).any()
    np.testing.assert_array_equal(whole.model.predict(OTHERS.features), np.rint(answers))
    assert whole.chosen == exact.chosen
    assert fitting.inner(whole.model).get_params() == fitting.inner(exact.model).get_params()


def test_it_is_saved_without_a_pickle() -> None:
    model = fitting.refit(pipeline(rounded=True), FOREST, FIT, {}, seed=1, threads=1)

    data = skops.io.dumps(model)
    again = skops.io.loads(data, trusted=fitting.trusted_types(model))

    np.testing.assert_array_equal(again.predict(OTHERS.features), model.predict(OTHERS.features))


def test_a_registered_network_rounds_too(servers: Settings) -> None:

    chosen = {"best_epoch": 2.0}
    model = fitting.refit(pipeline(rounded=True), NETWORK, FIT, chosen, seed=1, threads=1)
    with mlflow.start_run(experiment_id=tracking.experiment("rounding")):
        uri = flavors.log(model, OTHERS.features.head(5))

    loaded = flavors.load(uri)

    np.testing.assert_array_equal(loaded.predict(OTHERS.features), model.predict(OTHERS.features))


def test_classes_are_not_rounded() -> None:
    wines = pipeline(rounded=True)
    binary = wines.data.model_copy(update={"task": "binary"})
    assert "rounded" not in broken_fields(wines)
    assert "rounded" in broken_fields(wines.model_copy(update={"data": binary}))


def broken_fields(checked: Pipeline) -> set[str | int]:
    return {problem.field[0] for rule in RULES for problem in rule(checked)}
