"""How reliable the gate's decisions are: `python -m benchmarks.gate [CASES] [PIPELINE…]`.

Each case splits the units of a pipeline's real table at random: a test part of the size in the
file, and two halves of the rest. The champion is fitted on one half and the challenger on the
other, with the same configuration: the defaults of a model family of the file's space, a different
family in each case. No row is in two parts and no part is drawn from another, so the three parts
are independent samples of the same source; nothing needs to be known about a population.

A/A: how often the gate promotes the challenger, which is better only by chance.
Power: the challenger's predictions are moved towards the truth, equally far in all cases of a
family, until its mean improvement equals the mean detectable improvement of the decisions. Then
how often the gate promotes it.

All with the gate's own functions and the file's metric, confidence and resamples.
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
"""Resamples, enough where only a standard error is needed."""
FALSE_GOAL, POWER_GOAL = 0.05, 0.9


@dataclass(frozen=True)
class Case:
    """Predictions of two models for the same test rows."""

    family: int
    champion: Outcome
    challenger: Outcome
    unit_of_row: NDArray[np.intp]
    trained: float

    def improvement(self, pipeline: Pipeline, better: float, resamples: int) -> Improvement:
        """The gate's improvement, of a challenger moved towards the truth by the share `better`."""
        name = pipeline.metric.name
        return bootstrap.improvement(
            drawn.statistic(name, moved(self.challenger, better, name), self.unit_of_row),
            drawn.statistic(name, self.champion, self.unit_of_row),
            int(self.unit_of_row.max()) + 1,
            pipeline.metric.direction,
            pipeline.gate.model_copy(update={"resamples": resamples}),
            trained=self.trained,
        )


def promoted(pipeline: Pipeline, case: Case, better: float = 0.0) -> tuple[bool, Improvement]:
    """The gate's verdict against a champion, without a minimum improvement."""
    gain = case.improvement(pipeline, better, pipeline.gate.resamples)
    evidence = Evidence(metric=pipeline.metric.name, opponent="the champion", improvement=gain)
    return judge(evidence, 0.0)[0] == "promote", gain


def moved(outcome: Outcome, share: float, metric: str) -> Outcome:
    """The predictions, moved towards the truth by `share`, from 0 to 1."""
    if not outcome.positives:
        return replace(
            outcome, predicted=outcome.predicted + share * (outcome.truth - outcome.predicted)
        )
    rows = np.arange(len(outcome.truth))
    if metric not in PROBABILITIES:
        # A share of the labels becomes right; a greater share includes the smaller ones.
        lucky = np.random.default_rng(0).random(len(rows)) < share
        return replace(outcome, predicted=np.where(lucky, outcome.truth, outcome.predicted))
    chances = outcome.probabilities.copy()
    chances[rows, outcome.truth] *= math.exp(5 * share)
    return replace(outcome, probabilities=chances / chances.sum(axis=1, keepdims=True))


def split_case(pipeline: Pipeline, table: pd.DataFrame, points: list[Any], number: int) -> Case:
    """Fit a model on each of two parts of the table; their predictions for a third part."""
    rng = np.random.default_rng([1, number])
    family = number % len(points)
    units = rng.permutation(table[UNIT].unique())
    size = round(pipeline.split.test * len(units))
    half = (len(units) - size) // 2
    test = table[table[UNIT].isin(units[:size])]
    outcomes = []
    for side in range(2):
        trained = units[size + side * half : size + (side + 1) * half]
        rows = fitting.Rows.from_part(pipeline, table[table[UNIT].isin(trained)])
        seed, chosen = 2 * number + side, {"threshold": 0.5}
        fitted = fitting.refit(pipeline, points[family], rows, chosen, seed=seed, threads=1)
        features, truth = test[list(pipeline.feature_names)], test[pipeline.data.target]
        outcomes.append(metrics.predict(fitted, features, truth, pipeline.data.task))
    unit_of_row = np.unique(test[UNIT], return_inverse=True)[1]
    return Case(family, *outcomes, unit_of_row, half)


def detectable(pipeline: Pipeline, cases: list[Case]) -> float:
    """How far to move the predictions for an improvement that these cases can detect."""

    def is_too_small(share: float) -> bool:
        gains = [case.improvement(pipeline, share, ROUGH) for case in cases]
        return fmean(gain.estimate for gain in gains) < fmean(gain.detectable for gain in gains)

    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_small(middle) else (low, middle)
    return high


def wilson(hits: int, total: int) -> str:
    """A share with its 95 % interval."""
    z = NormalDist().inv_cdf(0.975)
    share, extra = hits / total, z * z / total
    centre = (share + extra / 2) / (1 + extra)
    half = z * math.sqrt(share * (1 - share) / total + extra / total / 4) / (1 + extra)
    return f"{100 * share:.1f} % ({100 * (centre - half):.1f} to {100 * (centre + half):.1f})"


def measure(name: str, count: int, pool: ProcessPoolExecutor) -> str:
    """A row of the table."""
    pipeline = load(name)
    manifest = make_snapshot(pipeline)
    table = pd.concat([read_part(manifest, part) for part in manifest.parts], ignore_index=True)
    points = parameters.default_points(pipeline)
    cases = list(pool.map(partial(split_case, pipeline, table, points), range(count), chunksize=4))
    judged = partial(promoted, pipeline)
    equal = list(pool.map(judged, cases, chunksize=4))
    certain = [replace(case, trained=math.inf) for case in cases]
    narrow = list(pool.map(judged, certain, chunksize=4))
    families = [[case for case in cases if case.family == n] for n in range(len(points))]
    # All cases are needed: the mean of 40 varied by a sixth of a decision's standard error.
    shares = list(pool.map(partial(detectable, pipeline), families))
    better = list(pool.map(judged, cases, [shares[case.family] for case in cases], chunksize=4))
    return (
        f"| `{name}` | {pipeline.metric.name} | {len(points)} "
        f"| {median(int(case.unit_of_row.max()) + 1 for case in cases):.0f}, {cases[0].trained} "
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
        lifecycle.start(only=("postgres", "store"), report=quiet)  # for `make_snapshot`
        for name in chosen:
            print(measure(name, count, pool), flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; confidence and resamples of the files")


if __name__ == "__main__":
    main()
