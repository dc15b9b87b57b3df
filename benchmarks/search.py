"""What the search costs in addition to its fits: `python -m benchmarks.search`, on a running stack.

(b) trials per second of one slot, published to MLflow, over those of bare `fmin` in one process;
(c) trials per second of two slots together, over those of one.

The fits are real and of a calibrated size. Start-up is shown but does not count: a slot's rate is
measured from the begin of its first trial to the end of its last one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from benchmarks import machine
from tasks.base import process
from tasks.base.refs import SlotRef
from tasks.base.settings import REPOSITORY
from tasks.clients import database, tracking
from tasks.pipeline.schema import Pipeline
from tasks.prepare.make import make_snapshot
from tasks.records import resolved
from tasks.search.trial_process import THREADS

NAME = "benchmark_search"
FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
ROUNDS = 9
BARE = ((0.2, 50, 0.95), (0.5, 25, 0.98))
"""Seconds per fit, trials, goal."""
TWO = (1.0, 24, 1.8)
Figures = dict[str, float]
Span = tuple[float, float]


def search_pipeline(trees: int, trials: int, slots: int, seed: int) -> Pipeline:
    """A search whose fits all take about as long: no parameter changes the size of the trees."""
    return Pipeline.model_validate(
        {
            "name": NAME,
            "description": "Fits of the same size, to measure what the search adds to them.",
            "owner": "benchmarks",
            "data": {
                "sources": [{"uri": "sklearn://diabetes"}],
                "target": "target",
                "task": "regression",
                "columns": {column: {} for column in (*FEATURES, "target")},
            },
            "search": {
                "trials": trials,
                "slots": slots,
                "seed": seed,
                "space": {
                    "estimator": "gradient_boosting",
                    "n_estimators": trees,
                    "learning_rate": {"loguniform": ["log(0.01)", "log(0.2)"]},
                    "min_samples_leaf": {"uniformint": [1, 4]},
                    "alpha": {"uniform": [0.8, 0.95]},
                    "validation_fraction": {"uniform": [0.1, 0.2]},
                },
            },
            "metric": {"name": "rmse", "direction": "minimize"},
        }
    )


def bare_fmin(pipeline: Pipeline, snapshot_uri: str) -> Figures:
    """`fmin` over the same fits, without anything around it."""
    import numpy as np
    from hyperopt import fmin, tpe

    from tasks.pipeline import space
    from tasks.search import trial

    objective = trial.load(pipeline, snapshot_uri, threads_per_slot(pipeline))
    spans: list[Span] = []

    def loss(params: dict[str, Any]) -> float:
        began = time.perf_counter()
        figure = objective(params, seed=len(spans)).figures["val_rmse"]
        spans.append((began, time.perf_counter()))
        return figure

    fmin(
        loss,
        space.to_hyperopt(space.parse(pipeline.search.space)),
        tpe.suggest,
        max_evals=pipeline.search.trials,
        rstate=np.random.default_rng(pipeline.search.seed),
        show_progressbar=False,
        verbose=False,
    )
    return {
        "rate": len(spans) / (spans[-1][1] - spans[0][0]),
        "fit": statistics.fmean(end - begin for begin, end in spans),
    }


def run_slots(pipeline: Pipeline, snapshot_uri: str) -> Figures:
    """The real search, with its slots in separate processes."""
    run = tracking.client().create_run(tracking.experiment(NAME), run_name="benchmark")
    began = time.time()
    slot = partial(
        SlotRef,
        name=NAME,
        run_id=run.info.run_id,
        pipeline_uri=resolved.write(pipeline),
        snapshot_uri=snapshot_uri,
    )
    running = [
        program("slot", slot(slot=number).model_dump_json())
        for number in range(pipeline.search.slots)
    ]
    if any(slot_process.wait() for slot_process in running):
        raise SystemExit("a slot failed")
    tracking.client().set_terminated(run.info.run_id)
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select extract(epoch from began_at)::float8, extract(epoch from ended_at)::float8,"
            " (metrics->>'duration_s')::float8"
            " from trial where search = %s and outcome = 'finished' and published"
            " order by began_at",
            (run.info.run_id,),
        )
        trials = cursor.fetchall()
    if len(trials) != pipeline.search.trials:
        raise SystemExit(
            f"{len(trials)} of {pipeline.search.trials} trials are finished and published"
        )
    return {
        "rate": total_rate([(begin, end) for begin, end, _ in trials]),
        "fit": statistics.fmean(fit for _, _, fit in trials),
        "start": trials[0][0] - began,
    }


def total_rate(spans: list[Span]) -> float:
    """The sum of the slots' trials per second; spans that do not overlap count as one slot's.

    The rate over all trials would also measure how far apart the slots happened to begin and end,
    which matters in a search as short as these.
    """
    slots: list[list[Span]] = []
    for span in spans:
        slot = next((slot for slot in slots if slot[-1][1] <= span[0]), None)
        if slot is None:
            slots.append(slot := [])
        slot.append(span)
    return sum(len(slot) / (slot[-1][1] - slot[0][0]) for slot in slots)


def threads_per_slot(pipeline: Pipeline) -> int:
    """Native threads of a fit in a slot."""
    return max(1, process.cores() // pipeline.search.slots)


def program(what: str, *arguments: str, threads: int = 1) -> subprocess.Popen[str]:
    """This module in another process, with the threads that a slot's process would have."""
    return subprocess.Popen(
        [
            "/usr/bin/env",
            *(f"{name}={threads}" for name in THREADS),
            *(sys.executable, "-m", "benchmarks.search", what, *arguments),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE if what == "bare" else None,
        text=True,
    )


def run_bare(pipeline: Pipeline, snapshot_uri: str, *, processes: int = 1) -> Figures:
    """`bare_fmin` in new processes at the same time: the sum of their rates, their mean fit."""
    running = [
        program("bare", resolved.write(pipeline), snapshot_uri, threads=threads_per_slot(pipeline))
        for _ in range(processes)
    ]
    results: list[Figures] = [json.loads(bare.communicate()[0]) for bare in running]
    return {
        "rate": sum(figures["rate"] for figures in results),
        "fit": statistics.fmean(figures["fit"] for figures in results),
    }


def calibrated(seconds: float, snapshot_uri: str) -> int:
    """How many trees make a fit, with its scoring, take this many seconds."""
    from tasks.search import trial

    trees = 100
    for _ in range(4):
        objective = trial.load(search_pipeline(trees, 1, 1, 0), snapshot_uri, 1)
        params = {"estimator": "gradient_boosting", "n_estimators": trees, "learning_rate": 0.05}
        durations = []
        for _ in range(3):
            began = time.perf_counter()
            objective(params, seed=0)
            durations.append(time.perf_counter() - began)
        trees = max(1, round(trees * seconds / statistics.median(durations)))
    return trees


def table_one_slot(snapshot_uri: str) -> Iterator[str]:
    """The lines of table (b)."""
    yield (
        "| fit | trials | bare `fmin`, trials/s | one slot, trials/s | ratio | goal "
        "| between fits: `fmin`, slot | start-up |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for seconds, trials, goal in BARE:
        pipeline = partial(search_pipeline, calibrated(seconds, snapshot_uri), trials, 1)
        bare, slot = rounds(
            lambda seed, pipeline=pipeline: run_bare(pipeline(seed), snapshot_uri),
            lambda seed, pipeline=pipeline: run_slots(pipeline(seed), snapshot_uri),
        )
        yield (
            f"| {median(bare, 'fit'):.2f} s | {ROUNDS} x {trials} "
            f"| {median(bare, 'rate'):.3f} | {median(slot, 'rate'):.3f} "
            f"| {ratio(slot, bare)} | ≥ {goal} "
            f"| {pause_ms(bare):.1f}, {pause_ms(slot):.1f} ms | {median(slot, 'start'):.1f} s |"
        )


def table_two_slots(snapshot_uri: str) -> Iterator[str]:
    """The lines of table (c), with what the machine itself achieves with two processes."""
    yield (
        "| fit | trials | one slot, trials/s | two slots, trials/s | ratio | goal "
        "| two processes of bare `fmin` over one |"
    )
    yield "|---|---|---|---|---|---|---|"
    seconds, trials, goal = TWO
    trees = calibrated(seconds, snapshot_uri)
    half = partial(search_pipeline, trees, trials // 2, 1)
    one_slot, two_slots, bare, two_bare = rounds(
        lambda seed: run_slots(half(seed), snapshot_uri),
        lambda seed: run_slots(search_pipeline(trees, trials, 2, seed), snapshot_uri),
        lambda seed: run_bare(half(seed), snapshot_uri),
        lambda seed: run_bare(half(seed), snapshot_uri, processes=2),
    )
    yield (
        f"| {median(one_slot, 'fit'):.2f} s | {ROUNDS} x {trials // 2}, {trials} "
        f"| {median(one_slot, 'rate'):.3f} | {median(two_slots, 'rate'):.3f} "
        f"| {ratio(two_slots, one_slot)} | ≥ {goal} | {ratio(two_bare, bare)} |"
    )


def rounds(*measures: Callable[[int], Figures]) -> list[list[Figures]]:
    """The figures of each measure, round by round; every second round runs in reverse order.

    A machine that others use, too, drifts by several percent within a minute. What is compared must
    therefore run close together, and no measure may always be the second.
    """
    results: list[list[Figures]] = [[] for _ in measures]
    for seed in range(ROUNDS):
        order = range(len(measures)) if seed % 2 == 0 else reversed(range(len(measures)))
        for index in order:
            results[index].append(measures[index](seed))
    return results


def median(results: list[Figures], name: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(figures[name] for figures in results)


def ratio(results: list[Figures], base: list[Figures]) -> str:
    """The median and the quartiles of the rounds' ratios of rates."""
    ratios = [a["rate"] / b["rate"] for a, b in zip(results, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def pause_ms(results: list[Figures]) -> float:
    """Mean milliseconds from the end of a fit to the begin of the next one."""
    return 1000 * statistics.median(1 / figures["rate"] - figures["fit"] for figures in results)


def main() -> None:
    """Print both tables, or be one of the processes that they need."""
    match sys.argv[1:]:
        case ["bare", pipeline_uri, snapshot_uri]:
            print(json.dumps(bare_fmin(resolved.read(pipeline_uri), snapshot_uri)))
        case ["slot", reference]:
            from tasks.search import search

            search(SlotRef.model_validate_json(reference))
        case tables:
            print(f"{machine.describe()}; load before: {os.getloadavg()[0]:.1f}\n")
            snapshot_uri = make_snapshot(search_pipeline(10, 1, 1, 0)).uri
            for name, table in (("b", table_one_slot), ("c", table_two_slots)):
                if not tables or name in tables:
                    for line in table(snapshot_uri):
                        print(line, flush=True)
                    print()


if __name__ == "__main__":
    main()
