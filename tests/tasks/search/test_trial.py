from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, root_mean_squared_error

from tasks.base.errors import UserError
from tasks.models.fitting import Rows
from tasks.pipeline.schema import Pipeline
from tasks.records.snapshots import UNIT, read_manifest, read_part
from tasks.search import trial
from tests.tasks.search import searches
from tests.tasks.search.searches import FEATURES, pipeline

RIDGE = {"estimator": "ridge", "alpha": 1.0}


def table(units: int, rows: int) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {name: generator.normal(size=rows) for name in (*FEATURES, "target")}
        | {UNIT: generator.integers(0, units, rows)}
    )


@pytest.mark.parametrize("count", [2, 5])
def test_folds_keep_a_unit_on_one_side_and_score_each_row_once(count: int) -> None:
    train = table(units=30, rows=200)

    halves = list(trial.folds(train, count, seed=3))

    assert len(halves) == count
    assert all(not set(fit[UNIT]) & set(score[UNIT]) for fit, score in halves)
    assert sorted(index for _, score in halves for index in score.index) == list(range(200))


def test_folds_depend_on_the_seed_alone() -> None:
    train = table(units=30, rows=200)

    def scored(seed: int) -> list[list[int]]:
        return [list(score.index) for _, score in trial.folds(train, 3, seed)]

    assert scored(1) == scored(1)
    assert scored(1) != scored(2)


def test_folds_of_classes_are_stratified_within_units() -> None:
    train = table(units=120, rows=400).assign(
        target=lambda rows: (rows[UNIT] % 12 == 0).astype(int)
    )

    halves = list(trial.folds(train, 5, 0, train["target"]))

    rare = train["target"].mean()
    for fit, score in halves:
        assert not set(fit[UNIT]) & set(score[UNIT])
        assert score["target"].mean() == pytest.approx(rare, abs=0.03)
    assert sorted(index for _, score in halves for index in score.index) == list(range(400))


def test_more_folds_than_rows_of_any_class_is_an_error() -> None:
    train = table(units=9, rows=9).assign(**{UNIT: range(9), "target": [0, 1, 2] * 3})
    with pytest.raises(UserError, match="cannot be split into 5 folds by class"):
        list(trial.folds(train, 5, 0, train["target"]))


def test_more_folds_than_units_is_an_error() -> None:
    with pytest.raises(UserError, match=r"at most 3, the units of the training part\. Got 5"):
        list(trial.folds(table(units=3, rows=50), 5, seed=0))


def objective(definition: Pipeline, *halves: tuple[pd.DataFrame, pd.DataFrame]) -> trial.Objective:
    rows = tuple(
        (Rows.from_part(definition, fit), Rows.from_part(definition, score))
        for fit, score in halves
    )
    return trial.Objective(definition, rows, 1)


def test_figures_are_those_of_the_parts() -> None:
    fit, score = table(9, 80), table(9, 50)
    expected = Ridge(alpha=1.0).fit(fit[list(FEATURES)], fit["target"])

    figures = objective(pipeline(), (fit, score))(RIDGE, seed=0).figures

    for prefix, rows in (("training", fit), ("val", score)):
        predicted = expected.predict(rows[list(FEATURES)])
        assert figures[f"{prefix}_r2"] == pytest.approx(r2_score(rows["target"], predicted))
        assert figures[f"{prefix}_rmse"] == pytest.approx(
            root_mean_squared_error(rows["target"], predicted)
        )


def test_figures_of_folds_are_means_with_their_spread() -> None:
    train = table(30, 200)
    halves = list(trial.folds(train, 4, seed=0))
    each = [objective(pipeline(), half)(RIDGE, seed=0).figures["val_rmse"] for half in halves]

    figures = objective(pipeline(), *halves)(RIDGE, seed=0).figures

    assert figures["val_rmse"] == pytest.approx(np.mean(each))
    assert figures["val_rmse_std"] == pytest.approx(np.std(each))
    assert "training_rmse_std" not in figures


def attempt(params: dict[str, Any], definition: Pipeline | None = None) -> dict[str, Any]:
    halves = table(9, 80), table(9, 50)
    return trial.attempt(objective(definition or pipeline(), halves), params, seed=0)


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_a_lower_loss_is_better_whatever_the_metric(direction: str, sign: int) -> None:
    metric = pipeline().metric.model_copy(update={"direction": direction})

    result = attempt(RIDGE, pipeline().model_copy(update={"metric": metric}))

    assert result["outcome"] == "finished"
    assert result["figure"] == result["metrics"]["val_rmse"]
    assert result["loss"] == sign * result["figure"]
    assert result["metrics"]["duration_s"] > 0


def test_what_the_estimator_raises_is_the_trials_error() -> None:
    result = attempt(RIDGE | {"alpha": -1.0})

    assert result["outcome"] == "failed"
    assert result["loss"] is None
    assert result["error"].startswith("InvalidParameterError: The 'alpha' parameter of Ridge must")
    assert "in fit" in result["error"]
    assert set(result["metrics"]) == {"duration_s"}


class Broken(trial.Objective):
    """Returns or raises `give`."""

    def __call__(self, params: dict[str, Any], seed: int) -> trial.Scored:  # noqa: ARG002
        if isinstance(params["give"], Exception):
            raise params["give"]
        return trial.Scored({"val_rmse": params["give"], "training_rmse": 1.0}, {})


def test_a_long_error_keeps_its_first_line_and_fits_a_tag() -> None:
    broken = Broken(pipeline(), (), 1)

    result = trial.attempt(broken, {"give": ValueError("x" * 10_000)}, 0)

    assert len(result["error"]) <= trial.LONGEST_ERROR
    assert result["error"].startswith("ValueError: xxx")
    assert "in __call__" in result["error"]


class Warns(trial.Objective):
    """Warns on several lines, as scikit-learn's solvers do."""

    def __call__(self, params: dict[str, Any], seed: int) -> trial.Scored:  # noqa: ARG002
        warnings.warn(
            "It failed to converge.\n\nScale the data:\n    see", UserWarning, stacklevel=1
        )
        logging.getLogger("alibrary").warning("fell back\n\tto one thread")
        return trial.Scored({"val_rmse": 1.0}, {})


def test_each_warning_is_one_line() -> None:
    result = trial.attempt(Warns(pipeline(), (), 1), {}, 0)

    assert result["warnings"].splitlines() == [
        "UserWarning: It failed to converge. Scale the data: see",
        "alibrary: fell back to one thread",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.7976931348623157e308])
def test_a_figure_that_is_not_finite_fails_the_trial(value: float) -> None:
    """MLflow would store +inf as the largest float."""
    result = trial.attempt(Broken(pipeline(), (), 1), {"give": value}, 0)

    assert (result["outcome"], result["loss"], result["figure"]) == ("failed", None, None)
    assert set(result["metrics"]) == {"training_rmse", "duration_s"}
    assert "val_rmse is not finite" in result["error"]


@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_that_overflow_in_a_real_fit() -> None:
    boosting = {"estimator": "gradient_boosting", "n_estimators": 1, "learning_rate": 1e305}

    assert attempt(boosting)["outcome"] == "failed"


def test_load_reads_the_parts_of_the_snapshot(store: object) -> None:
    uri = searches.snapshot()
    train, validation, test = (
        read_part(read_manifest(uri), part) for part in ("train", "validation", "test")
    )

    holdout = trial.load(pipeline(), uri, threads=1)
    folded = trial.load(pipeline(resampling={"folds": 4}), uri, threads=1)

    ((fit, score),) = holdout.halves
    assert (len(fit.truth), len(score.truth)) == (len(train), len(validation))
    assert sum(len(score.truth) for _, score in folded.halves) == len(train)
    for fit, score in (*holdout.halves, *folded.halves):
        for rows in (fit, score):
            assert list(rows.features.columns) == list(FEATURES)
            assert not len(rows.features.merge(test[list(FEATURES)]))


def test_holdout_needs_a_validation_part(store: object) -> None:
    with pytest.raises(UserError, match="no validation part"):
        trial.load(pipeline(), searches.snapshot(validation=0.0), threads=1)


def test_curves_are_averaged_up_to_the_shortest() -> None:
    assert trial._mean_curves([{"val_loss": []}]) == {"val_loss": []}
    assert trial._mean_curves([{"val_loss": [2.0, 1.0]}, {"val_loss": [4.0]}]) == {
        "val_loss": [3.0]
    }
