"""What the gate's decisions are worth: `python -m benchmarks.gate [CASES] [PIPELINE…]`.

Each case splits the units of a pipeline's real table anew, at random: a test part of the file's
size, and the rest in two halves. The champion is fitted on the one, the challenger on the other,
with the same configuration: the defaults of one model family of the file's space, case by case
the next. No row is in two parts and no part is drawn from another, so the three are what three
samples of the same source are; nothing needs to be known about a population.

A/A: how often the gate promotes the challenger, which is no better but by chance.
Power: the challenger's answers are moved towards the truth, as far for all cases of a family,
until its mean improvement is the mean of what the decisions themselves call the smallest that
they would show; then how often the gate promotes it.

All by the gate's own functions, with the file's own metric, confidence and resamples.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist, fmean, median
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.stack import own_home, quiet
from tasks.gate import bootstrap, drawn
from tasks.gate.bootstrap import Improvement
from tasks.gate.decision import Evidence, judge
from tasks.models import fitting, metrics, parameters
from tasks.models.metrics import Outcome
from tasks.pipeline.load import load, names
from tasks.pipeline.metrics import PROBABILITIES
from tasks.pipeline.schema import Pipeline
from tasks.prepare.make import make_snapshot
from tasks.records.snapshots import UNIT, read_part
from tasks.stack.embedded import lifecycle

CASES = 300
ROUGH = 200
"""Resamples that tell a standard error, where no bound is asked for."""
FALSE_GOAL, POWER_GOAL = 0.05, 0.9


@dataclass(frozen=True)
class Case:
    """Answers of two models to the same test rows."""

    family: int
    champion: Outcome
    challenger: Outcome
    unit_of: NDArray[np.intp]
    trained: float

    def improvement(self, pipeline: Pipeline, better: float, resamples: int) -> Improvement:
        """As the gate finds it, of a challenger that is so much nearer to the truth."""
        name = pipeline.metric.name
        return bootstrap.improvement(
            drawn.statistic(name, moved(self.challenger, better, name), self.unit_of),
            drawn.statistic(name, self.champion, self.unit_of),
            int(self.unit_of.max()) + 1,
            pipeline.metric.direction,
            pipeline.gate.model_copy(update={"resamples": resamples}),
            trained=self.trained,
        )


def promoted(pipeline: Pipeline, one: Case, better: float = 0.0) -> tuple[bool, Improvement]:
    """The gate's verdict, against a champion and without a least improvement."""
    gain = one.improvement(pipeline, better, pipeline.gate.resamples)
    found = Evidence(metric=pipeline.metric.name, opponent="the champion", improvement=gain)
    return judge(found, 0.0)[0] == "promote", gain


def moved(found: Outcome, share: float, metric: str) -> Outcome:
    """The answers, nearer to the truth the greater `share` is, from 0 to 1."""
    if not found.positives:
        return replace(found, predicted=found.predicted + share * (found.truth - found.predicted))
    rows = np.arange(len(found.truth))
    if metric not in PROBABILITIES:  # of wrong labels a share is right, and more with a greater one
        lucky = np.random.default_rng(0).random(len(rows)) < share
        return replace(found, predicted=np.where(lucky, found.truth, found.predicted))
    chances = found.probabilities.copy()
    chances[rows, found.truth] *= math.exp(5 * share)
    return replace(found, probabilities=chances / chances.sum(axis=1, keepdims=True))


def case(pipeline: Pipeline, table: pd.DataFrame, points: list[Any], number: int) -> Case:
    """Three parts of the table, and what a model of each of two of them says of the third."""
    rng = np.random.default_rng([1, number])
    family = number % len(points)
    units = rng.permutation(table[UNIT].unique())
    size = round(pipeline.split.test * len(units))
    half = (len(units) - size) // 2
    test = table[table[UNIT].isin(units[:size])]
    answers = []
    for side in range(2):
        trained = units[size + side * half : size + (side + 1) * half]
        rows = fitting.Rows.from_part(pipeline, table[table[UNIT].isin(trained)])
        seed, chosen = 2 * number + side, {"threshold": 0.5}
        fitted = fitting.refit(pipeline, points[family], rows, chosen, seed=seed, threads=1)
        features, truth = test[list(pipeline.feature_names)], test[pipeline.data.target]
        answers.append(metrics.predict(fitted, features, truth, pipeline.data.task))
    unit_of = np.unique(test[UNIT], return_inverse=True)[1]
    return Case(family, *answers, unit_of, half)


def detectable(pipeline: Pipeline, cases: list[Case]) -> float:
    """How far to move the answers for as much as these cases could show."""

    def lacks(share: float) -> bool:
        gains = [one.improvement(pipeline, share, ROUGH) for one in cases]
        return fmean(gain.estimate for gain in gains) < fmean(gain.detectable for gain in gains)

    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if lacks(middle) else (low, middle)
    return high


def wilson(hits: int, of: int) -> str:
    """A share with its 95 % interval."""
    z = NormalDist().inv_cdf(0.975)
    share, extra = hits / of, z * z / of
    centre = (share + extra / 2) / (1 + extra)
    half = z * math.sqrt(share * (1 - share) / of + extra / of / 4) / (1 + extra)
    return f"{100 * share:.1f} % ({100 * (centre - half):.1f} to {100 * (centre + half):.1f})"


def measured(name: str, count: int, pool: ProcessPoolExecutor) -> str:
    """A line of the table."""
    pipeline = load(name)
    manifest = make_snapshot(pipeline)
    table = pd.concat([read_part(manifest, part) for part in manifest.parts], ignore_index=True)
    points = parameters.default_points(pipeline)
    cases = list(pool.map(partial(case, pipeline, table, points), range(count), chunksize=4))
    judged = partial(promoted, pipeline)
    equal = list(pool.map(judged, cases, chunksize=4))
    certain = [replace(one, trained=math.inf) for one in cases]
    narrow = list(pool.map(judged, certain, chunksize=4))
    of_family = [[one for one in cases if one.family == number] for number in range(len(points))]
    # All cases: of 40, chance moved their mean by a sixth of a decision's standard error.
    shares = list(pool.map(partial(detectable, pipeline), of_family))
    better = list(pool.map(judged, cases, [shares[one.family] for one in cases], chunksize=4))
    return (
        f"| `{name}` | {pipeline.metric.name} | {len(points)} "
        f"| {median(int(one.unit_of.max()) + 1 for one in cases):.0f}, {cases[0].trained} "
        f"| {wilson(sum(verdict for verdict, _ in narrow), count)} "
        f"| {wilson(sum(verdict for verdict, _ in equal), count)} "
        f"| {median(gain.detectable for _, gain in better):.3g} "
        f"| {wilson(sum(verdict for verdict, _ in better), count)} |"
    )


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CASES
    chosen = sys.argv[2:] or names()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    began = time.perf_counter()
    print(f"{machine.describe()}; {count} cases a pipeline\n")
    heads = (
        "pipeline",
        "metric",
        "families",
        "units: tested, trained on",
        "A/A promoted, not widened",
        f"A/A promoted, at most {100 * FALSE_GOAL:g} %",
        "detectable",
        f"power there, at least {100 * POWER_GOAL:g} %",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    with (
        own_home(),
        ProcessPoolExecutor(
            os.cpu_count(), mp_context=multiprocessing.get_context("spawn")
        ) as pool,
    ):
        lifecycle.start(only=("postgres", "store"), report=quiet)  # for `made`
        for name in chosen:
            print(measured(name, count, pool), flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; confidence and resamples of the files")


if __name__ == "__main__":
    main()
