from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from tasks import model
from tasks.errors import MlopsError, UserError
from tasks.pipeline.schema import Pipeline

LINEAR = {"estimator": "linear"}


def pipeline(
    columns: dict[str, str],
    task: str = "regression",
    space: dict[str, Any] | None = None,
    **features: Any,
) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "example",
            "description": "",
            "owner": "",
            "data": {
                "sources": [{"uri": "file:///none.csv"}],
                "target": "y",
                "task": task,
                "columns": {name: {"type": kind} for name, kind in columns.items()} | {"y": {}},
            },
            "features": features,
            "search": {"space": space or LINEAR},
            "metric": {"name": "rmse", "direction": "minimize"},
        }
    )


def steps(built: Any) -> dict[str, Any]:
    """The preparation's transformers, by name."""
    return {name: what for name, what, _ in built.named_steps["prepare"].transformers}


@pytest.fixture
def diabetes() -> tuple[pd.DataFrame, Any]:
    return load_diabetes(return_X_y=True, as_frame=True, scaled=False)


@pytest.mark.parametrize(
    ("params", "plain"),
    [
        (LINEAR, LinearRegression()),
        (
            {"estimator": "decision_tree", "max_depth": 5, "random_state": 0},
            DecisionTreeRegressor(max_depth=5, random_state=0),
        ),
    ],
)
@pytest.mark.parametrize("impute", ["none", "median"])
def test_complete_numbers_give_what_scikit_learn_alone_gives(
    diabetes: tuple[pd.DataFrame, Any], params: dict[str, Any], plain: Any, impute: str
) -> None:
    x, y = diabetes
    of = pipeline(dict.fromkeys(x.columns, "double"), impute={"numeric": impute})

    built = model.build(of, params, seed=1, threads=1).fit(x, y)

    np.testing.assert_allclose(built.predict(x), plain.fit(x, y).predict(x), rtol=1e-9)
    assert (steps(built)["numeric"] == "passthrough") == (impute == "none")


def test_columns_are_found_by_name_and_others_ignored(diabetes: tuple[pd.DataFrame, Any]) -> None:
    x, y = diabetes
    of = pipeline({"bmi": "double", "age": "integer"})
    built = model.build(of, LINEAR, seed=0, threads=1).fit(x[["bmi", "age"]], y)

    shuffled = x[["sex", "age", "bmi"]]

    np.testing.assert_array_equal(built.predict(shuffled), built.predict(x))


FRAME = pd.DataFrame(
    {
        "size": [1.0, 2.0, np.nan, 9.0],
        "color": pd.Series(["red", "white", None, "red"], dtype="str"),
        "empty": [np.nan] * 4,
    }
)
KINDS = {"size": "double", "color": "category", "empty": "double"}


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({}, [[1, 0, 1, 0], [2, 0, 0, 1], [2, 0, 1, 0], [9, 0, 1, 0]]),
        (
            {"impute": {"numeric": "mean"}, "encode": "ordinal"},
            [[1, 0, 0], [2, 0, 1], [4, 0, 0], [9, 0, 0]],
        ),
        ({"scale": "minmax"}, [[0, 0, 1, 0], [0.125, 0, 0, 1], [0.125, 0, 1, 0], [1, 0, 1, 0]]),
        (
            {"impute": {"category": "none"}},
            [[1, 0, 1, 0, 0], [2, 0, 0, 1, 0], [2, 0, 0, 0, 1], [9, 0, 1, 0, 0]],
        ),
    ],
)
def test_preparation(features: dict[str, Any], expected: list[list[float]]) -> None:
    of = pipeline(KINDS, **features)

    prepare = model.build(of, LINEAR, seed=0, threads=1).named_steps["prepare"]

    np.testing.assert_allclose(prepare.fit_transform(FRAME), expected)


@pytest.mark.parametrize(("encode", "unseen"), [("onehot", [3, 0, 0]), ("ordinal", [3, -1])])
def test_a_category_never_seen_is_no_error(encode: str, unseen: list[float]) -> None:
    of = pipeline({"size": "double", "color": "category"}, encode=encode)
    prepare = model.build(of, LINEAR, seed=0, threads=1).named_steps["prepare"].fit(FRAME)

    given = pd.DataFrame({"size": [3.0], "color": pd.Series(["blue"], dtype="str")})

    np.testing.assert_array_equal(prepare.transform(given), [unseen])


def test_standard_scale_is_fitted_on_the_training_rows() -> None:
    of = pipeline({"size": "double"}, scale="standard")
    prepare = model.build(of, LINEAR, seed=0, threads=1).named_steps["prepare"]
    prepare.fit(pd.DataFrame({"size": [0.0, 2.0]}))

    np.testing.assert_allclose(prepare.transform(pd.DataFrame({"size": [3.0]})), [[2.0]])


def test_seed_and_threads_reach_the_estimator_unless_the_point_sets_them() -> None:
    of = pipeline({"a": "double"})

    forest = {"estimator": "random_forest"}
    ours = model.build(of, forest, seed=7, threads=2)["model"]
    theirs = model.build(of, forest | {"random_state": 3, "n_jobs": 1}, seed=7, threads=2)["model"]
    linear = model.build(of, LINEAR, seed=7, threads=2)["model"]

    assert (ours.random_state, ours.n_jobs) == (7, 2)
    assert (theirs.random_state, theirs.n_jobs) == (3, 1)
    assert linear.n_jobs is None


def test_classification_warns_of_nothing() -> None:
    of = pipeline({"a": "double"}, task="binary")
    built = model.build(of, LINEAR, seed=7, threads=2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built.fit(pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]}), [0, 0, 1, 1])


def test_lists_become_tuples() -> None:
    """A point that went through JSON builds the same estimator."""
    of = pipeline({"a": "double"})
    params = {"estimator": "random_forest", "monotonic_cst": [1, [0, -1]]}

    built = model.build(of, params, seed=0, threads=1)

    assert built["model"].monotonic_cst == (1, (0, -1))


def test_unknown_parameter_is_named_with_its_neighbour() -> None:
    with pytest.raises(UserError, match="'max_dept' must be a parameter of 'decision_tree'") as err:
        model.build(
            pipeline({"a": "double"}), {"estimator": "decision_tree", "max_dept": 3}, 0, threads=1
        )

    assert err.value.fix == "Did you mean 'max_depth'?"


def test_check_names_every_problem_before_any_fit() -> None:
    space = {
        "choice": [
            {"estimator": "ridge", "alpah": 1.0},
            {"estimator": "decision_tree", "max_depth": {"uniformint": [1, 5]}, "depth": 2},
            {"estimator": "linear"},
        ]
    }
    with pytest.raises(UserError) as caught:
        model.check(pipeline({"a": "double"}, space=space))

    text = str(caught.value)
    assert "2 problems" in text
    assert "search.space.ridge.alpah" in text
    assert "Did you mean 'alpha'?" in text
    assert "search.space.decision_tree.depth" in text


def test_check_refuses_a_family_that_cannot_do_the_task() -> None:
    of = pipeline({"a": "double"}, task="binary", space={"estimator": "ridge"})

    with pytest.raises(UserError, match="decision_tree, gradient_boosting, linear, random_forest"):
        model.check(of)


def test_check_accepts_what_can_be_built() -> None:
    model.check(
        pipeline({"a": "double"}, space={"estimator": "ridge", "alpha": {"uniform": [0, 1]}})
    )


def test_default_points_keep_what_the_space_fixes() -> None:
    space = {
        "choice": [
            {"estimator": "ridge", "alpha": {"uniform": [0, 9]}, "fit_intercept": False},
            {"estimator": "random_forest", "n_estimators": {"uniformint": [10, 500]}},
        ]
    }

    points = model.default_points(pipeline({"a": "double"}, space=space))

    assert points == [
        {"estimator": "ridge", "alpha": 1.0, "fit_intercept": False},
        {"estimator": "random_forest", "n_estimators": 100},
    ]


@pytest.mark.parametrize("name", ["linear", "decision_tree", "random_forest", "gradient_boosting"])
@pytest.mark.parametrize(
    "features", [{}, {"scale": "standard", "encode": "ordinal"}, {"scale": "minmax"}]
)
def test_model_loads_with_its_trusted_types_and_no_other(
    name: str, features: dict[str, Any]
) -> None:
    of = pipeline({"size": "double", "color": "category"}, **features)
    built = model.build(of, {"estimator": name}, 0, 1).fit(FRAME, [1.0, 2.0, 3.0, 4.0])

    data = skops.io.dumps(built)

    assert set(skops.io.get_untrusted_types(data=data)) <= set(model.trusted_types(built))
    again = skops.io.loads(data, trusted=model.trusted_types(built))
    np.testing.assert_array_equal(again.predict(FRAME), built.predict(FRAME))


def test_no_types_are_trusted_of_an_estimator_that_is_nobodys() -> None:
    built = model.build(pipeline({"a": "double"}), LINEAR, 0, 1)
    built.steps[-1] = ("model", object())

    with pytest.raises(MlopsError, match="No model family"):
        model.trusted_types(built)
