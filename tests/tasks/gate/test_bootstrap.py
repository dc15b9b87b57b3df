from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier

from tasks.gate import bootstrap
from tasks.gate import drawn as drawn_module
from tasks.gate.bootstrap import Improvement, improvement
from tasks.gate.drawn import score, statistic
from tasks.models import metrics
from tasks.models.metrics import Outcome
from tasks.pipeline.metrics import Task, of_task
from tasks.pipeline.schema import Gate

RNG = np.random.default_rng(0)
ROWS = 400
Y = RNG.normal(1e4, 1, ROWS)


def numbers(truth: NDArray[Any], predicted: NDArray[Any]) -> Outcome:
    return Outcome(truth, predicted, np.empty((len(truth), 0)))


def classes(shares: list[float], positives: tuple[int, ...]) -> Outcome:
    """Rows in these shares, more than half predicted right; many probabilities are equal."""
    truth = RNG.choice(len(shares), ROWS, p=shares)
    predicted = np.where(RNG.random(ROWS) < 0.6, truth, RNG.choice([0, 1, -1], ROWS))
    chances = RNG.integers(1, 9, (ROWS, len(shares))).astype(float)
    return Outcome(truth, predicted, chances / chances.sum(axis=1, keepdims=True), positives)


OUTCOMES: dict[Task, Outcome] = {
    "regression": numbers(Y, Y + RNG.normal(0, 0.5, ROWS)),
    "binary": classes([0.7, 0.3], (1,)),
    "multiclass": classes([0.5, 0.4, 0.1], (0, 1, 2)),
}


def compare(
    losses: tuple[NDArray[Any], NDArray[Any]], units: NDArray[Any], **options: Any
) -> Improvement:
    """Two models with these errors, compared by mean absolute error."""
    names, unit_of_row = np.unique(units, return_inverse=True)
    zero = np.zeros(len(units))
    challenger, opponent = (
        statistic("mae", numbers(zero, errors), unit_of_row) for errors in losses
    )
    direction = options.pop("direction", "minimize")
    gate = Gate(**{"resamples": 400} | options)
    return improvement(challenger, opponent, len(names), direction, gate)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_fast_path_equals_scikit_learn_with_sample_weights(task: Task) -> None:
    unit_of_row = np.arange(ROWS) % 37
    counts = RNG.multinomial(37, np.full(37, 1 / 37), size=5).astype(float)
    for metric in of_task(task):
        fast = statistic(metric, OUTCOMES[task], unit_of_row)(counts)
        slow = [metrics.score(metric, OUTCOMES[task], drawn[unit_of_row]) for drawn in counts]
        np.testing.assert_allclose(fast, slow, rtol=1e-9, err_msg=metric)


@pytest.mark.parametrize("metric", ["auc_weighted", "average_precision_weighted"])
def test_a_class_that_is_not_drawn_has_no_weight(metric: str) -> None:
    outcome = OUTCOMES["multiclass"]
    counts = (outcome.truth != 0).astype(float)[None, :]
    fast = statistic(metric, outcome, np.arange(ROWS))(counts)
    assert np.isfinite(fast).all()
    assert fast == pytest.approx([metrics.score(metric, outcome, counts[0])])
    assert np.isnan(statistic("auc", outcome, np.arange(ROWS))(counts)).all()


def test_a_metric_without_a_fast_path_is_scored_by_its_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = RNG.multinomial(20, np.full(20, 1 / 20), size=3).astype(float)
    unit_of_row = np.arange(ROWS) % 20
    fast = statistic("mae", OUTCOMES["regression"], unit_of_row)(counts)
    monkeypatch.delitem(drawn_module._COLUMNS, "mae")
    slow = statistic("mae", OUTCOMES["regression"], unit_of_row)(counts)
    np.testing.assert_allclose(slow, fast)


def ranked(rare: int, units: int = 100) -> Improvement:
    """Two equal models of two classes, one of which has `rare` units."""
    truth = (np.arange(units) < rare).astype(int)
    chances = np.random.default_rng(5).random((units, 2))
    outcome = Outcome(truth, truth, chances, (1,))
    figure = statistic("auc", outcome, np.arange(units))
    return improvement(figure, figure, units, "maximize", Gate(resamples=400))


def test_a_few_draws_without_a_class_are_ignored() -> None:
    result = ranked(5)
    assert (result.estimate, result.lower, result.upper) == (0, 0, 0)


@pytest.mark.parametrize("rare", [1, 99])
def test_many_draws_without_a_class_are_no_interval(rare: int) -> None:
    with pytest.raises(bootstrap.NoValueError, match=r"undefined on 3\d(\.\d)? % of the resamples"):
        ranked(rare)


def test_rare_classes_promote_no_more_equal_models_than_promised() -> None:
    """Six classes, three of them of 2 % each, and 80 units; both models are equally good."""
    rng = np.random.default_rng(6)
    wins = 0
    for _ in range(60):
        truth = rng.choice(6, 80, p=[0.02] * 3 + [0.94 / 3] * 3)
        scores = rng.normal(size=(2, 80, 6)) + np.eye(6)[truth]
        outcomes = [Outcome(truth, truth, np.exp(model), (*range(6),)) for model in scores]
        challenger, champion = (statistic("auc", model, np.arange(80)) for model in outcomes)
        try:
            gain = improvement(challenger, champion, 80, "maximize", Gate(resamples=200))
        except bootstrap.NoValueError:
            continue
        wins += gain.lower > 0
    assert wins <= 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["auc", "average_precision"])
def test_rows_of_one_class_have_no_rank_and_no_warning(metric: str) -> None:
    outcome = Outcome(np.zeros(20, int), np.zeros(20, int), np.full((20, 2), 0.5), (1,))
    figures = statistic(metric, outcome, np.arange(20))(np.ones((3, 20)))
    assert figures.shape == (3,)
    assert np.isnan(figures).all()


def test_scores_of_constant_truth_are_those_of_scikit_learn() -> None:
    truth = np.full(5, 3.0)
    assert score("r2", numbers(truth, truth)) == 1.0
    assert score("r2", numbers(truth, truth + 1)) == 0.0


def test_improvement_is_positive_when_better_in_either_direction() -> None:
    good, bad = np.full(100, 1.0), np.full(100, 2.0)
    assert compare((good, bad), np.arange(100)).estimate == pytest.approx(1)
    assert compare((good, bad), np.arange(100), direction="maximize").estimate == pytest.approx(-1)


def test_the_same_seed_gives_the_same_interval() -> None:
    errors = RNG.normal(size=200), RNG.normal(size=200)
    first, again = (compare(errors, np.arange(200), seed=5) for _ in range(2))
    assert first == again
    assert compare(errors, np.arange(200), seed=6).lower != first.lower


def test_standard_error_and_detectable_improvement_are_those_of_the_formula() -> None:
    errors = np.abs(RNG.normal(size=900)), np.abs(RNG.normal(size=900))
    result = compare(errors, np.arange(900), resamples=5000)
    exact = np.std(errors[0] - errors[1], ddof=1) / np.sqrt(900)
    assert result.standard_error == pytest.approx(exact, rel=0.05)
    assert result.detectable == pytest.approx((1.645 + 1.282) * result.standard_error, rel=5e-3)
    assert result.upper - result.estimate == pytest.approx(1.645 * exact, rel=0.1)
    assert result.estimate - result.lower == pytest.approx(1.645 * exact, rel=0.1)


def test_resampling_units_keeps_the_confidence_and_resampling_rows_does_not() -> None:
    """A/A: 40 units of 10 rows whose errors move together; neither model is better."""
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(40), 10)
    wins = {"units": 0, "rows": 0}
    rounds = 400
    for _ in range(rounds):
        shared = rng.normal(size=(2, 40))[:, units] + rng.normal(size=(2, 400))
        errors = 5 + shared[0], 5 + shared[1]
        wins["units"] += compare(errors, units).lower > 0
        wins["rows"] += compare(errors, np.arange(400)).lower > 0
    assert wins["units"] / rounds <= 0.08
    assert wins["rows"] / rounds >= 0.15


@pytest.mark.parametrize("units", [12, 89])
def test_equal_models_are_promoted_about_as_often_as_promised(
    units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(3).normal(size=(1500, 2, units))
    names = np.arange(units)

    def rate() -> float:
        return float(np.mean([compare((5 + a, 5 + b), names).lower > 0 for a, b in noise]))

    assert 0.03 <= rate() <= 0.07
    if units == 12:  # with plain percentiles
        normal = NormalDist()
        monkeypatch.setattr(bootstrap, "_quantile", lambda share, _units: normal.inv_cdf(share))
        assert rate() > 0.07


@pytest.mark.parametrize(("shared", "used"), [(0.0, 1.0), (0.9, 1.0), (0.9, 0.5)])
def test_a_mere_retraining_is_promoted_as_rarely_as_promised(shared: float, used: float) -> None:
    """Two equal trainings on 160 units, some of them shared, differ by training variance.

    Linear models with five features, tested on 120 units. An interval without training variance
    promotes a retraining too often. So does an interval for smooth models if each learns from a
    random part, as a network that stops early does.
    """
    rng = np.random.default_rng(4)
    units, tested, features, rounds = 160, 120, 5, 1000
    own = round(units * (1 - shared))
    wins = {math.inf: 0, float(units): 0}
    for _ in range(rounds):
        inputs = rng.normal(size=(units + own + tested, features))
        truth = rng.normal(size=len(inputs))
        sides = np.arange(units), np.arange(own, units + own)
        parts = [rng.choice(side, round(used * units), replace=False) for side in sides]
        fits = [np.linalg.lstsq(inputs[part], truth[part], rcond=None)[0] for part in parts]
        test, predictions = truth[-tested:], [inputs[-tested:] @ fit for fit in fits]
        challenger, champion = (
            statistic("mse", numbers(test, predicted), np.arange(tested))
            for predicted in predictions
        )
        for trained in wins:
            gate = Gate(resamples=300)
            gain = improvement(challenger, champion, tested, "minimize", gate, trained=trained)
            wins[trained] += gain.lower > 0
    assert wins[units] / rounds <= 0.062
    assert wins[math.inf] / rounds >= 0.075


def test_the_detectable_improvement_is_shown_as_often_as_promised() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(300, 2, 150))
    gain = compare((5 + noise[0, 0], 5 + noise[0, 1]), np.arange(150)).detectable
    shown = [compare((5 + a, 5 + b + gain), np.arange(150)).lower > 0 for a, b in noise]
    assert np.mean(shown) == pytest.approx(0.9, abs=0.05)


def test_a_certain_wrong_prediction_costs_the_same_as_in_scikit_learn() -> None:
    model = DummyClassifier(strategy="constant", constant="a").fit([[0], [1]], ["a", "b"])
    outcome = metrics.predict(model, [[0], [1]], ["a", "b"], "binary")
    assert score("log_loss", outcome) == pytest.approx(metrics.score("log_loss", outcome))
