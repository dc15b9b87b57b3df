"""Wall time of the whole DAG over that of a plain script with exactly the same fits.

The script has the same slots and threads, but no Airflow, MLflow or PostgreSQL: a process per slot,
a queue, and a refit of the best trial. The DAG runs first, and the script repeats its trials. The
benchmark starts its own stack and removes it.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, timed
from benchmarks.stack import own_home
from tasks.clients import database
from tasks.clients.orchestrator import Airflow
from tasks.stack.embedded import lifecycle

NAME = "five_minutes"
DAG = f"train__{NAME}"
Spans = dict[str, tuple[float, float]]


def main() -> None:
    """Run the DAG, then the script, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=280)
    arguments = parser.parse_args()
    os.environ["MLOPS_PIPELINES"] = str(Path(__file__).parent / "pipelines")
    with own_home():
        lifecycle.start()
        spans, work = run_dag(arguments.trials)
        script_s = timed(lambda: run_script(work))
    print(describe())
    print(f"\n| {arguments.trials} real fits, {work['slots']} slots | wall time |\n|---|---|")
    print(f"| plain script | {script_s:.1f} s |")
    first = min(begin for begin, _ in spans.values())
    dag_s = max(end for _, end in spans.values()) - first
    print(f"| DAG, first task's start to last task's end | {dag_s:.1f} s |")
    print(f"| **ratio** | **{dag_s / script_s:.3f}** |")
    print(f"| overhead | {dag_s - script_s:.1f} s |")
    print("\n| task | begins after | takes |\n|---|---:|---:|")
    for task, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        print(f"| {task} | {begin - first:.1f} s | {end - begin:.1f} s |")


def run_dag(trials: int) -> tuple[Spans, dict[str, Any]]:
    """When each task of the DAG run began and ended, and the work for the script."""
    airflow = Airflow()
    while not airflow.dag_exists(DAG):
        time.sleep(1)
    run = airflow.trigger(DAG, {"trials": trials})
    if airflow.wait(DAG, run) != "success":
        raise SystemExit(f"{DAG} failed")
    slots = [entry["slot"] for entry in airflow.xcom(DAG, run, "prepare")]
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select tid, vals from trial where search = %s order by tid", (slots[0]["run_id"],)
        )
        rows = cursor.fetchall()
    instances = airflow.get(f"/dags/{DAG}/dagRuns/{run}/taskInstances", limit=100)
    spans: Spans = {}
    for task in instances["task_instances"]:
        if task["start_date"]:
            begin, end = _time(task["start_date"]), _time(task["end_date"])
            earliest, latest = spans.get(task["task_id"], (begin, end))
            spans[task["task_id"]] = min(begin, earliest), max(end, latest)
    return spans, {"slot": slots[0], "slots": len(slots), "trials": rows}


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def run_script(work: dict[str, Any]) -> None:
    """Fit all trials, then refit the best."""
    threads = max(1, (os.cpu_count() or 1) // work["slots"])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    with ProcessPoolExecutor(work["slots"], initializer=load, initargs=(work["slot"],)) as pool:
        scores = list(pool.map(fit, work["trials"], [threads] * len(work["trials"])))
    load(work["slot"])
    best = min(range(len(scores)), key=scores.__getitem__)
    fit(work["trials"][best], os.cpu_count() or 1)


_loaded: dict[str, Any] = {}


def load(slot: dict[str, Any]) -> None:
    """Imports and data, once per process."""
    from tasks.records import resolved
    from tasks.records.snapshots import read_manifest, read_part

    manifest = read_manifest(slot["snapshot_uri"])
    _loaded["pipeline"] = resolved.read(slot["pipeline_uri"])
    _loaded.update({part: read_part(manifest, part) for part in ("train", "validation")})


def fit(trial: tuple[int, dict[str, Any]], threads: int) -> float:
    """One fit and its score."""
    from tasks.models import fitting, metrics
    from tasks.pipeline import space

    pipeline = _loaded["pipeline"]
    tid, vals = trial
    params = space.evaluate(space.parse(pipeline.search.space), vals)
    estimator = fitting.build(pipeline, params, seed=tid, threads=threads)
    names, target = list(pipeline.feature_names), pipeline.data.target
    train, validation = _loaded["train"], _loaded["validation"]
    estimator.fit(train[names], train[target])
    metrics.scores(pipeline.data.task, estimator, train[names], train[target])
    return metrics.scores(pipeline.data.task, estimator, validation[names], validation[target])[
        "rmse"
    ]


if __name__ == "__main__":
    main()
