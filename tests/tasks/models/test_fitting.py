from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from tasks.base.errors import MlopsError, UserError
from tasks.models import fitting, parameters
from tasks.pipeline.schema import Column, Pipeline

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


def steps(model: Any) -> dict[str, Any]:
    """The preparation's transformers, by name."""
    return {name: what for name, what, _ in model.named_steps["prepare"].transformers}


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
def test_complete_numbers_give_the_same_as_scikit_learn_alone(
    diabetes: tuple[pd.DataFrame, Any], params: dict[str, Any], plain: Any, impute: str
) -> None:
    x, y = diabetes
    config = pipeline(dict.fromkeys(x.columns, "double"), impute={"numeric": impute})

    model = fitting.build(config, params, seed=1, threads=1).fit(x, y)

    np.testing.assert_allclose(model.predict(x), plain.fit(x, y).predict(x), rtol=1e-9)
    assert (steps(model)["numeric"] == "passthrough") == (impute == "none")


def test_columns_are_found_by_name_and_others_ignored(diabetes: tuple[pd.DataFrame, Any]) -> None:
    x, y = diabetes
    config = pipeline({"bmi": "double", "age": "integer"})
    model = fitting.build(config, LINEAR, seed=0, threads=1).fit(x[["bmi", "age"]], y)

    shuffled = x[["sex", "age", "bmi"]]

    np.testing.assert_array_equal(model.predict(shuffled), model.predict(x))


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
    config = pipeline(KINDS, **features)

    prepare = fitting.build(config, LINEAR, seed=0, threads=1).named_steps["prepare"]

    np.testing.assert_allclose(prepare.fit_transform(FRAME), expected)


@pytest.mark.parametrize(("encode", "unseen"), [("onehot", [3, 0, 0]), ("ordinal", [3, -1])])
def test_an_unseen_category_is_accepted(encode: str, unseen: list[float]) -> None:
    config = pipeline({"size": "double", "color": "category"}, encode=encode)
    prepare = fitting.build(config, LINEAR, seed=0, threads=1).named_steps["prepare"].fit(FRAME)

    given = pd.DataFrame({"size": [3.0], "color": pd.Series(["blue"], dtype="str")})

    np.testing.assert_array_equal(prepare.transform(given), [unseen])


@pytest.mark.parametrize(
    ("encode", "expected"),
    [
        ("onehot", [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]),
        ("ordinal", [[1], [3], [-1], [1]]),
    ],
)
def test_the_model_knows_declared_categories_that_no_training_row_has(
    encode: str, expected: list[list[float]]
) -> None:
    config = declared(encode)
    prepare = fitting.build(config, LINEAR, seed=0, threads=1).named_steps["prepare"]
    prepare.fit(colors("2.5", "7"))
    np.testing.assert_array_equal(prepare.transform(colors("2.5", "7", "blue", None)), expected)


@pytest.mark.parametrize(
    ("encode", "expected"),
    [("onehot", [[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]), ("ordinal", [[1], [np.nan]])],
)
def test_a_null_among_declared_categories_without_imputation(
    encode: str, expected: list[list[float]]
) -> None:
    config = declared(encode, impute={"category": "none"})
    prepare = fitting.build(config, LINEAR, seed=0, threads=1).named_steps["prepare"]
    prepare.fit(colors("2.5", "7"))
    np.testing.assert_array_equal(prepare.transform(colors("2.5", None)), expected)


@pytest.mark.parametrize("encode", ["onehot", "ordinal"])
@pytest.mark.parametrize("impute", ["none", "most_frequent"])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("cells", [[None], ["2.5", None, "blue"]])
def test_none_is_a_null_like_nan(
    encode: str, impute: str, listed: bool, cells: list[str | None]
) -> None:
    """JSON's null becomes None; a snapshot has NaN."""
    features: dict[str, Any] = {"impute": {"category": impute}}
    if listed:
        config = declared(encode, **features)
    else:
        config = pipeline({"color": "category"}, encode=encode, **features)
    prepare = fitting.build(config, LINEAR, seed=0, threads=1).named_steps["prepare"]
    prepare.fit(colors("7", "2.5", "7", None))

    transformed = prepare.transform(pd.DataFrame({"color": pd.Series(cells, dtype="object")}))

    np.testing.assert_array_equal(transformed, prepare.transform(colors(*cells)))


@pytest.mark.parametrize("encode", ["onehot", "ordinal"])
@pytest.mark.parametrize("impute", ["none", "most_frequent"])
def test_declared_categories_survive_skops(tmp_path: Path, encode: str, impute: str) -> None:
    config = declared(encode, impute={"category": impute})
    tree = {"estimator": "gradient_boosting", "n_estimators": 2}
    if encode == "ordinal" and impute == "none":
        rows = colors("2.5", "7", "2.5", "7")
    else:
        rows = colors("2.5", "7", "2.5", None)
    fitted = fitting.build(config, tree, seed=0, threads=1).fit(rows, [0.0, 1.0, 0.0, 1.0])
    skops.io.dump(fitted, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=fitting.trusted_types(fitted))
    np.testing.assert_array_equal(loaded.predict(rows), fitted.predict(rows))


def colors(*cells: str | None) -> pd.DataFrame:
    return pd.DataFrame({"color": pd.Series(cells, dtype="str")})


def declared(encode: str, **features: Any) -> Pipeline:
    """A pipeline over one category that declares its values."""
    config = pipeline({"color": "category"}, encode=encode, **features)
    column = Column(type="category", values=("red", 2.5, "never", 7), nullable=True)
    columns = {**config.data.columns, "color": column}
    return config.model_copy(update={"data": config.data.model_copy(update={"columns": columns})})


def test_standard_scale_is_fitted_on_the_training_rows() -> None:
    config = pipeline({"size": "double"}, scale="standard")
    prepare = fitting.build(config, LINEAR, seed=0, threads=1).named_steps["prepare"]
    prepare.fit(pd.DataFrame({"size": [0.0, 2.0]}))

    np.testing.assert_allclose(prepare.transform(pd.DataFrame({"size": [3.0]})), [[2.0]])


def test_seed_and_threads_reach_the_estimator_unless_the_point_sets_them() -> None:
    config = pipeline({"a": "double"})

    forest = {"estimator": "random_forest"}
    ours = fitting.build(config, forest, seed=7, threads=2)["model"]
    theirs = fitting.build(config, forest | {"random_state": 3, "n_jobs": 1}, seed=7, threads=2)[
        "model"
    ]
    linear = fitting.build(config, LINEAR, seed=7, threads=2)["model"]

    assert (ours.random_state, ours.n_jobs) == (7, 2)
    assert (theirs.random_state, theirs.n_jobs) == (3, 1)
    assert linear.n_jobs is None


def test_classification_gives_no_warning() -> None:
    config = pipeline({"a": "double"}, task="binary")
    model = fitting.build(config, {"estimator": "logistic_regression"}, seed=7, threads=2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0]}), [0, 0, 1, 1])


def test_lists_become_tuples() -> None:
    """A point that went through JSON builds the same estimator."""
    config = pipeline({"a": "double"})
    params = {"estimator": "random_forest", "monotonic_cst": [1, [0, -1]]}

    model = fitting.build(config, params, seed=0, threads=1)

    assert model["model"].monotonic_cst == (1, (0, -1))


def test_unknown_parameter_is_named_with_its_neighbour() -> None:
    with pytest.raises(UserError, match="'max_dept' must be a parameter of 'decision_tree'") as err:
        fitting.build(
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
        parameters.check_space(pipeline({"a": "double"}, space=space))

    text = str(caught.value)
    assert "2 problems" in text
    assert "search.space.ridge.alpah" in text
    assert "Did you mean 'alpha'?" in text
    assert "search.space.decision_tree.depth" in text


def test_check_refuses_a_family_that_cannot_do_the_task() -> None:
    config = pipeline({"a": "double"}, task="binary", space={"estimator": "ridge"})

    with pytest.raises(
        UserError, match="decision_tree, extra_trees, gradient_boosting, keras_mlp, logistic"
    ):
        parameters.check_space(config)


def test_check_accepts_what_can_be_built() -> None:
    parameters.check_space(
        pipeline({"a": "double"}, space={"estimator": "ridge", "alpha": {"uniform": [0, 1]}})
    )


def test_default_points_keep_what_the_space_fixes() -> None:
    space = {
        "choice": [
            {"estimator": "ridge", "alpha": {"uniform": [0, 9]}, "fit_intercept": False},
            {"estimator": "random_forest", "n_estimators": {"uniformint": [10, 500]}},
        ]
    }

    points = parameters.default_points(pipeline({"a": "double"}, space=space))

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
    config = pipeline({"size": "double", "color": "category"}, **features)
    model = fitting.build(config, {"estimator": name}, 0, 1).fit(FRAME, [1.0, 2.0, 3.0, 4.0])

    data = skops.io.dumps(model)

    assert set(skops.io.get_untrusted_types(data=data)) <= set(fitting.trusted_types(model))
    again = skops.io.loads(data, trusted=fitting.trusted_types(model))
    np.testing.assert_array_equal(again.predict(FRAME), model.predict(FRAME))


def test_an_estimator_of_no_family_has_no_trusted_types() -> None:
    model = fitting.build(pipeline({"a": "double"}), LINEAR, 0, 1)
    model.steps[-1] = ("model", object())

    with pytest.raises(MlopsError, match="No model family"):
        fitting.trusted_types(model)
