"""What the search costs beside its fits, on the running stack: `python benchmarks/search.py`.

(b) trials a second of one slot, published to MLflow, over bare `fmin` in one process;
(c) trials a second of two slots, added, over those of one.

Real fits of a calibrated size, never a sleep. Start-up is not counted (it is shown): a slot's rate
is that from its first trial's begin to its last one's end.
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
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks import machine  # noqa: E402
from tasks.base import process  # noqa: E402
from tasks.base.refs import SlotRef  # noqa: E402
from tasks.clients import database, tracking  # noqa: E402
from tasks.pipeline.schema import Pipeline  # noqa: E402
from tasks.prepare.make import make_snapshot  # noqa: E402
from tasks.records import resolved  # noqa: E402
from tasks.search.worker import THREADS  # noqa: E402

NAME = "benchmark_search"
FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
ROUNDS = 9
BARE = ((0.2, 50, 0.95), (0.5, 25, 0.98))
"""Seconds a fit, trials, goal."""
TWO = (1.0, 24, 1.8)
Figures = dict[str, float]


def pipeline(trees: int, trials: int, slots: int, seed: int) -> Pipeline:
    """A search whose fits all take about as long: its parameters do not change the trees' size."""
    return Pipeline.model_validate(
        {
            "name": NAME,
            "description": "Fits of one size, to see what the search adds to them.",
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


def bare(of: Pipeline, snapshot: str) -> Figures:
    """`fmin` over the same fits, with nothing around it."""
    import numpy as np
    from hyperopt import fmin, tpe

    from tasks.pipeline import space
    from tasks.search import trial

    objective = trial.load(of, snapshot, threads_of(of))
    spans: list[tuple[float, float]] = []

    def loss(params: dict[str, Any]) -> float:
        began = time.perf_counter()
        figure = objective(params, seed=len(spans)).figures["val_rmse"]
        spans.append((began, time.perf_counter()))
        return figure

    fmin(
        loss,
        space.to_hyperopt(space.parse(of.search.space)),
        tpe.suggest,
        max_evals=of.search.trials,
        rstate=np.random.default_rng(of.search.seed),
        show_progressbar=False,
        verbose=False,
    )
    return {
        "rate": len(spans) / (spans[-1][1] - spans[0][0]),
        "fit": statistics.fmean(end - begin for begin, end in spans),
    }


def slots(of: Pipeline, snapshot: str) -> Figures:
    """The search as it is, its slots as processes of their own."""
    run = tracking.client().create_run(tracking.experiment(NAME), run_name="benchmark")
    began = time.time()
    running = [
        program(
            "slot",
            SlotRef(
                name=NAME,
                run_id=run.info.run_id,
                pipeline=resolved.write(of),
                snapshot=snapshot,
                slot=number,
            ).model_dump_json(),
        )
        for number in range(of.search.slots)
    ]
    if any(slot.wait() for slot in running):
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
        found = cursor.fetchall()
    if len(found) != of.search.trials:
        raise SystemExit(f"{len(found)} of {of.search.trials} trials are finished and published")
    return {
        "rate": added([(first, last) for first, last, _ in found]),
        "fit": statistics.fmean(fit for _, _, fit in found),
        "start": found[0][0] - began,
    }


def added(spans: list[tuple[float, float]]) -> float:
    """Trials a second of each slot, added; which slot ran a trial shows in what does not overlap.

    Over all trials at once it would count, in a search as short as these, how far apart the slots
    happened to begin and to end.
    """
    ran: list[list[tuple[float, float]]] = []
    for span in spans:
        slot = next((one for one in ran if one[-1][1] <= span[0]), None)
        if slot is None:
            ran.append(slot := [])
        slot.append(span)
    return sum(len(slot) / (slot[-1][1] - slot[0][0]) for slot in ran)


def threads_of(of: Pipeline) -> int:
    """Native threads of a fit, as a slot has them."""
    return max(1, process.cores() // of.search.slots)


def program(what: str, *arguments: str, threads: int = 1) -> subprocess.Popen[str]:
    """This file as another process, with the threads that a slot's process would have."""
    return subprocess.Popen(
        [
            "/usr/bin/env",
            *(f"{name}={threads}" for name in THREADS),
            *(sys.executable, __file__, what, *arguments),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE if what == "bare" else None,
        text=True,
    )


def run_bare(of: Pipeline, snapshot: str, *, processes: int = 1) -> Figures:
    """`bare` in fresh processes side by side: their trials a second together, their mean fit."""
    running = [
        program("bare", resolved.write(of), snapshot, threads=threads_of(of))
        for _ in range(processes)
    ]
    told = [json.loads(process.communicate()[0]) for process in running]
    return {
        "rate": sum(one["rate"] for one in told),
        "fit": statistics.fmean(one["fit"] for one in told),
    }


def calibrated(seconds: float, snapshot: str) -> int:
    """How many trees make a fit of this many seconds, scoring included."""
    from tasks.search import trial

    trees = 100
    for _ in range(4):
        of = pipeline(trees, 1, 1, 0)
        objective = trial.load(of, snapshot, 1)
        params = {"estimator": "gradient_boosting", "n_estimators": trees, "learning_rate": 0.05}
        took = []
        for _ in range(3):
            began = time.perf_counter()
            objective(params, seed=0)
            took.append(time.perf_counter() - began)
        trees = max(1, round(trees * seconds / statistics.median(took)))
    return trees


def compared(snapshot: str) -> Iterator[str]:
    """Lines of the table of (b)."""
    yield (
        "| fit | trials | bare `fmin`, trials/s | one slot, trials/s | ratio | goal "
        "| between fits: `fmin`, slot | start-up |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for seconds, trials, goal in BARE:
        of = partial(pipeline, calibrated(seconds, snapshot), trials, 1)
        yield beside_fmin(of, snapshot, goal)


def beside_fmin(of: Callable[[int], Pipeline], snapshot: str, goal: float) -> str:
    """A line of the table of (b); `of` gives the search of a seed."""
    alone, ours = rounds(
        lambda seed: run_bare(of(seed), snapshot), lambda seed: slots(of(seed), snapshot)
    )
    ratios = [b["rate"] / a["rate"] for a, b in zip(alone, ours, strict=True)]
    return (
        f"| {mid(alone, 'fit'):.2f} s | {ROUNDS} x {of(0).search.trials} "
        f"| {mid(alone, 'rate'):.3f} | {mid(ours, 'rate'):.3f} | {spread(ratios)} | ≥ {goal} "
        f"| {between(alone):.1f}, {between(ours):.1f} ms | {mid(ours, 'start'):.1f} s |"
    )


def doubled(snapshot: str) -> Iterator[str]:
    """Lines of the table of (c), with what the machine itself makes of two processes."""
    yield (
        "| fit | trials | one slot, trials/s | two slots, trials/s | ratio | goal "
        "| two processes of bare `fmin` over one |"
    )
    yield "|---|---|---|---|---|---|---|"
    seconds, trials, goal = TWO
    trees = calibrated(seconds, snapshot)
    one, two, bare_one, bare_two = rounds(
        lambda seed: slots(pipeline(trees, trials // 2, 1, seed), snapshot),
        lambda seed: slots(pipeline(trees, trials, 2, seed), snapshot),
        lambda seed: run_bare(pipeline(trees, trials // 2, 1, seed), snapshot),
        lambda seed: run_bare(pipeline(trees, trials // 2, 1, seed), snapshot, processes=2),
    )
    ratios = [b["rate"] / a["rate"] for a, b in zip(one, two, strict=True)]
    machine_s = [b["rate"] / a["rate"] for a, b in zip(bare_one, bare_two, strict=True)]
    yield (
        f"| {mid(one, 'fit'):.2f} s | {ROUNDS} x {trials // 2}, {trials} "
        f"| {mid(one, 'rate'):.3f} | {mid(two, 'rate'):.3f} "
        f"| {spread(ratios)} | ≥ {goal} | {spread(machine_s)} |"
    )


def rounds(*measures: Callable[[int], Figures]) -> list[list[Figures]]:
    """Each measure's figures, round after round; every second round in reverse order.

    A machine that others use too drifts by several percent within a minute: what is compared must
    lie close together in time, and neither may always be the second.
    """
    found: list[list[Figures]] = [[] for _ in measures]
    for seed in range(ROUNDS):
        order = range(len(measures)) if seed % 2 == 0 else reversed(range(len(measures)))
        for at in order:
            found[at].append(measures[at](seed))
    return found


def mid(figures: list[Figures], name: str) -> float:
    """Median of one figure over the rounds."""
    return statistics.median(one[name] for one in figures)


def spread(ratios: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def between(figures: list[Figures]) -> float:
    """Milliseconds from a fit's end to the next one's begin, on average."""
    return 1000 * statistics.median(1 / one["rate"] - one["fit"] for one in figures)


def main() -> None:
    """Print both tables, or be one of the processes that this takes."""
    match sys.argv[1:]:
        case ["bare", uri, snapshot]:
            print(json.dumps(bare(resolved.read(uri), snapshot)))
        case ["slot", ref]:
            from tasks.search import search

            search(SlotRef.model_validate_json(ref))
        case which:
            print(f"{machine.describe()}; load before: {os.getloadavg()[0]:.1f}\n")
            snapshot = make_snapshot(pipeline(10, 1, 1, 0)).uri
            for name, table in (("b", compared), ("c", doubled)):
                if not which or name in which:
                    for line in table(snapshot):
                        print(line, flush=True)
                    print()


if __name__ == "__main__":
    main()
