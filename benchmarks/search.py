"""What the search costs beside its fits, on the running stack: `python benchmarks/search.py`.

(b) trials a second of one slot, published to MLflow, over bare `fmin` in one process;
(c) trials a second of two slots over one.

Real fits of a calibrated size, never a sleep. Start-up is not counted (it is shown): a rate is that
from the first trial's begin to the last one's end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks import machine  # noqa: E402
from tasks import database, plan, process, tracking  # noqa: E402
from tasks.pipeline.schema import Pipeline  # noqa: E402
from tasks.prepare.make import made  # noqa: E402
from tasks.refs import SlotRef  # noqa: E402
from tasks.search.worker import THREADS  # noqa: E402

NAME = "benchmark_search"
FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
ROUNDS = 3
BARE = ((0.2, 100, 0.95), (0.5, 60, 0.98))
"""Seconds a fit, trials, goal."""
TWO = (1.0, 40, 1.8)


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


def bare(of: Pipeline, snapshot: str) -> dict[str, float]:
    """`fmin` over the same fits, with nothing around it."""
    import numpy as np
    from hyperopt import fmin, tpe

    from tasks.pipeline import space
    from tasks.search import trial

    objective = trial.load(of, snapshot, threads_of(of))
    spans: list[tuple[float, float]] = []

    def loss(params: dict[str, Any]) -> float:
        began = time.perf_counter()
        figure = objective(params, seed=len(spans))["val_rmse"]
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


def slots(of: Pipeline, snapshot: str) -> dict[str, float]:
    """The search as it is, its slots as processes of their own."""
    run = tracking.client().create_run(tracking.experiment(NAME), run_name="benchmark")
    began = time.time()
    running = [
        program(
            "slot",
            SlotRef(
                name=NAME,
                run_id=run.info.run_id,
                pipeline=plan.write(of),
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
            "select count(*), extract(epoch from max(ended_at) - min(began_at))::float8,"
            " extract(epoch from min(began_at))::float8,"
            " avg((metrics->>'duration_s')::float8), bool_and(published)"
            " from trial where search = %s and outcome = 'finished'",
            (run.info.run_id,),
        )
        count, seconds, first, fit, published = cursor.fetchall()[0]
    if count != of.search.trials or not published:
        raise SystemExit(f"{count} of {of.search.trials} trials finished, published: {published}")
    return {"rate": count / seconds, "fit": fit, "start": first - began}


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


def run_bare(of: Pipeline, snapshot: str) -> dict[str, float]:
    """`bare` in a fresh process."""
    done = program("bare", plan.write(of), snapshot, threads=threads_of(of))
    told, _ = done.communicate()
    figures: dict[str, float] = json.loads(told)
    return figures


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
        trees, ratios, pairs = calibrated(seconds, snapshot), [], []
        for seed in range(ROUNDS):
            of = pipeline(trees, trials, 1, seed)
            alone, ours = run_bare(of, snapshot), slots(of, snapshot)
            ratios.append(ours["rate"] / alone["rate"])
            pairs.append((alone, ours))
        alone, ours = pairs[ratios.index(statistics.median_low(ratios))]
        yield (
            f"| {alone['fit']:.2f} s | {trials} | {alone['rate']:.3f} | {ours['rate']:.3f} "
            f"| {statistics.median_low(ratios):.3f} (of {', '.join(f'{r:.3f}' for r in ratios)}) "
            f"| ≥ {goal} | {between(alone):.1f}, {between(ours):.1f} ms | {ours['start']:.1f} s |"
        )


def between(figures: dict[str, float]) -> float:
    """Milliseconds from a fit's end to the next one's begin, on average."""
    return 1000 * (1 / figures["rate"] - figures["fit"])


def doubled(snapshot: str) -> Iterator[str]:
    """Lines of the table of (c)."""
    yield "| fit | trials | one slot, trials/s | two slots, trials/s | ratio | goal |"
    yield "|---|---|---|---|---|---|"
    seconds, trials, goal = TWO
    trees, ratios, pairs = calibrated(seconds, snapshot), [], []
    for seed in range(ROUNDS):
        one = slots(pipeline(trees, trials // 2, 1, seed), snapshot)
        two = slots(pipeline(trees, trials, 2, seed), snapshot)
        ratios.append(two["rate"] / one["rate"])
        pairs.append((one, two))
    one, two = pairs[ratios.index(statistics.median_low(ratios))]
    yield (
        f"| {one['fit']:.2f} s | {trials // 2}, {trials} | {one['rate']:.3f} | {two['rate']:.3f} "
        f"| {statistics.median_low(ratios):.3f} (of {', '.join(f'{r:.3f}' for r in ratios)}) "
        f"| ≥ {goal} |"
    )


def main() -> None:
    """Print both tables, or be one of the processes that this takes."""
    match sys.argv[1:]:
        case ["bare", uri, snapshot]:
            print(json.dumps(bare(plan.read(uri), snapshot)))
        case ["slot", ref]:
            from tasks.search import search

            search(SlotRef.model_validate_json(ref))
        case which:
            print(f"{machine.describe()}; load before: {os.getloadavg()[0]:.1f}\n")
            snapshot = made(pipeline(10, 1, 1, 0)).uri
            for name, table in (("b", compared), ("c", doubled)):
                if not which or name in which:
                    for line in table(snapshot):
                        print(line, flush=True)
                    print()


if __name__ == "__main__":
    main()
