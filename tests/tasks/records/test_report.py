"""The report of made-up trials, of every kind that a search can leave."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.base.refs import RunRef
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records import report
from tasks.records.report import charts, importance
from tasks.records.report.charts import shown_range
from tasks.records.report.columns import ABSENT, Column, log_scaled
from tasks.records.trials.table import Trial, ranked
from tests.tasks.records.trials import finished
from tests.tasks.search.searches import pipeline

RUN = RunRef(name="x", run_id="abc", pipeline_uri="s3://p", snapshot_uri="s3://s")
PLOTS = ("families.png", "parallel_coordinates.png", "score_over_trials.png")


def trial(tid: int, score: float | None, outcome: str = "finished", **params: Any) -> Trial:
    params = {"estimator": "ridge", **params}
    made = finished(tid, params, score or 0.0, {"duration_s": 0.1 * tid}, f"run{tid}")
    if score is not None:
        return made
    error = "ValueError: <b>no</b>\ntrace"
    return replace(made, outcome=outcome, loss=None, figure=None, error=error)


def many(count: int) -> list[Trial]:
    """The score depends on alpha, not on beta."""
    generator = np.random.default_rng(0)
    alphas, betas = 10 ** generator.uniform(-3, 3, count), generator.uniform(0, 1, count)
    return [
        trial(tid, float(60 + np.log10(alpha) ** 2), alpha=float(alpha), beta=float(beta))
        for tid, (alpha, beta) in enumerate(zip(alphas, betas, strict=True))
    ]


@pytest.mark.parametrize(
    "every",
    [
        [trial(0, 1.0)],
        [trial(7, 0.0, alpha=1.0)],
        [trial(tid, 5.0, alpha=tid + 1.0) for tid in range(20)],
        [trial(0, None, "failed"), trial(1, 3.0), trial(2, None, "killed", alpha=2.0)],
        [trial(0, 1e300, alpha=1e-300), trial(1, -1e300, alpha=1e300), trial(2, 0.0, alpha=-1.0)],
        [
            trial(tid, float(tid), a=value)
            for tid, value in enumerate([None, True, "x" * 500, 0.1, 3, "[1, 2]", ""])
        ],
        [trial(tid, float(tid), b=tid) if tid % 2 else trial(tid, 1.0) for tid in range(12)],
        [*many(30), trial(30, 1e9, alpha=1.0, beta=0.5), trial(31, None, "failed", alpha=0.0)],
        [trial(tid, float(tid), estimator=f"family_{tid}", a=tid) for tid in range(40)],
    ],
)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_any_search_has_a_report(every: list[Trial], direction: str) -> None:
    metric = pipeline().metric.model_copy(update={"direction": direction})
    definition = pipeline().model_copy(update={"metric": metric})

    files = report.files(RUN, definition, every)

    assert set(files) == {*PLOTS, "report.html", "leaderboard.csv"}
    for name in PLOTS:
        image = Image.open(io.BytesIO(files[name]))
        assert image.width > 900
        assert len(image.convert("L").getcolors() or []) > 5  # not empty
    scored = [trial for trial in every if trial.loss is not None]
    assert files["leaderboard.csv"].decode().count("\n") == len(scored) + 1


def test_the_page_needs_nothing_else_and_shows_text_as_text() -> None:
    every = [
        *many(12),
        trial(12, None, "failed", alpha=1.0, beta=0.1),
        trial(13, 70.0, alpha=1.0, **{"<script>alert(1)</script>": "<img src=http://x>"}),
    ]

    files = report.files(RUN, named("<i>sly</i>"), every)
    page = files["report.html"].decode()

    tags = re.findall(r"<[a-z][^>]*>", page)
    assert all('="data:image/png;base64,' in tag for tag in tags if "src" in tag or "href" in tag)
    assert not re.search(r"@import|url\(", page)
    assert "<script" not in page
    assert "<i>sly" not in page
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in page
    inside = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert sorted(map(base64.b64decode, inside)) == sorted(files[name] for name in PLOTS)


def test_the_curves_are_the_losses_where_there_are_some() -> None:
    losses = {"training_loss": [2.0, 1.0], "val_loss": [3.0, 2.0]}
    network = replace(trial(0, 1.0), curves={**losses, "val_rmse_epoch": [1.7, 1.4]})
    other = replace(trial(1, 2.0), curves={"val_auc": [0.5, 0.6]})

    assert panels([network, other]) == ["training_loss", "val_loss"]
    assert panels([other]) == ["val_auc"]


def panels(ranking: list[Trial]) -> list[str]:
    chart = charts.curves(ranking)
    assert chart is not None
    return [axes.get_title(loc="left") for axes in chart.axes]


def named(description: str) -> Pipeline:
    return pipeline().model_copy(update={"description": description})


def test_importance_finds_the_parameter_that_matters() -> None:
    ranking = ranked(many(60))

    alpha = importance.of_parameters("ridge", ranking, {("ridge", "alpha")})

    assert alpha is not None
    assert alpha.explained is not None
    assert alpha.explained > 0.7
    shares = dict(alpha.shares)
    assert shares["alpha"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


def test_importance_of_the_family() -> None:
    generator = np.random.default_rng(0)
    every = [
        trial(tid, float(generator.normal(10 * (tid % 2))), estimator=("good", "bad")[tid % 2])
        for tid in range(40)
    ]
    family = importance.of_families(ranked(every))
    assert family is not None
    assert family.explained is not None
    assert 0.5 < family.explained < 1


def test_importance_says_when_it_cannot_tell() -> None:
    generator = np.random.default_rng(0)
    few, equal = many(9), [trial(tid, 1.0, alpha=float(tid)) for tid in range(12)]
    chance = [trial(tid, float(generator.normal()), alpha=float(tid % 5)) for tid in range(40)]

    result = importance.of_parameters("ridge", ranked(few), set())
    assert result is not None
    assert result.why == "Too few finished trials to tell: 9 of at least 10."
    result = importance.of_parameters("ridge", ranked(equal), set())
    assert result is not None
    assert result.why == "All its trials have the same figure."
    result = importance.of_parameters("ridge", ranked(chance), set())
    assert result is not None
    assert result.explained is not None
    assert result.explained < importance.LEAST
    assert result.shares == ()
    assert importance.of_parameters("ridge", [trial(0, 1.0)], set()) is None
    assert importance.of_families(ranked(few)) is None


def test_log_scales_of_the_space_under_flat_names() -> None:
    raw = {
        "choice": [
            {"estimator": "a", "rate": {"loguniform": [-5, 0]}, "depth": {"uniformint": [1, 5]}},
            {
                "estimator": "b",
                "optimizer": {
                    "choice": [{"name": "sgd", "rate": {"choice": [1, {"lognormal": [0, 1]}]}}]
                },
                "shape": [{"qloguniform": [0, 3, 1]}],
            },
        ]
    }
    assert log_scaled(space.parse(raw)) == {("a", "rate"), ("b", "optimizer.rate")}


def test_numbers_of_a_mixed_parameter_keep_their_order() -> None:
    column = Column("max_features", False, (0.5, "sqrt", 0.9, None, ABSENT, True))
    numbers = column.numbers()
    assert numbers[0] == 0.5
    assert numbers[2] == 0.9
    assert len(set(numbers)) == 6
    assert max(numbers[[1, 3, 4, 5]]) < 0.5


def test_an_axis_of_scores_leaves_out_outliers() -> None:
    scores = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 1000.0]
    low, high = shown_range(scores, minimizes=True)
    assert low == 1.0
    assert 1.9 <= high < 3
    low, high = shown_range([-score for score in scores], minimizes=False)
    assert high == -1.0
    assert shown_range([1.0, 2.0, 2.5], minimizes=True) == (1.0, 2.5)
