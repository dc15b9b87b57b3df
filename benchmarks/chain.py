"""Wall time of the whole DAG over a plain script that fits the very same trials.

The script has the same slots, threads and fits, and neither Airflow nor MLflow nor PostgreSQL: a
process a slot, a queue, a refit of the best. The DAG runs first; its trials' parameters are the
script's work list, so both do the same fits. A stack of its own is started and removed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

NAME = "five_minutes"
DAG = f"train__{NAME}"


def main() -> None:
    """Run the DAG, then the script, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=280)
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="mlops-chain-"))
    os.environ["MLOPS_HOME"] = str(home)
    os.environ["MLOPS_PIPELINES"] = str(Path(__file__).parent / "pipelines")
    from tasks.stack.embedded import lifecycle

    lifecycle.start()
    try:
        spans, work = through_airflow(arguments.trials)
        script_s = by_script(work)
    finally:
        lifecycle.down(wipe=True)
        shutil.rmtree(home, ignore_errors=True)
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


Spans = dict[str, tuple[float, float]]


def through_airflow(trials: int) -> tuple[Spans, dict[str, Any]]:
    """When each task of the DAG run began and ended, and the work list for the script."""
    from tasks.clients import database
    from tasks.clients.orchestrator import Airflow

    airflow = Airflow()
    while not airflow.dag_exists(DAG):
        time.sleep(1)
    run = airflow.trigger(DAG, {"trials": trials})
    if airflow.wait(DAG, run) != "success":
        raise SystemExit(f"{DAG} failed")
    slots = [entry["slot"] for entry in airflow.xcom(DAG, run, "prepare")]
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute(
            "select tid, vals from trial where search = %s order by tid", (slots[0]["run_id"],)
        )
        rows = cursor.fetchall()
    connection.close()
    found = airflow.get(f"/dags/{DAG}/dagRuns/{run}/taskInstances", limit=100)["task_instances"]
    spans: Spans = {}
    for task in (one for one in found if one["start_date"]):
        begin, end = _time(task["start_date"]), _time(task["end_date"])
        before = spans.get(task["task_id"], (begin, end))
        spans[task["task_id"]] = min(begin, before[0]), max(end, before[1])
    return spans, {"slot": slots[0], "slots": len(slots), "trials": rows}


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def by_script(work: dict[str, Any]) -> float:
    """Seconds of the plain script."""
    begin = time.perf_counter()
    threads = max(1, (os.cpu_count() or 1) // work["slots"])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    with ProcessPoolExecutor(work["slots"], initializer=load, initargs=(work["slot"],)) as pool:
        scores = list(pool.map(fit, work["trials"], [threads] * len(work["trials"])))
    load(work["slot"])
    best = min(range(len(scores)), key=scores.__getitem__)
    fit(work["trials"][best], os.cpu_count() or 1)
    return time.perf_counter() - begin


_loaded: dict[str, Any] = {}


def load(slot: dict[str, Any]) -> None:
    """Imports and data, once a process."""
    from tasks.records import resolved
    from tasks.records.snapshots import read_manifest, read_part

    manifest = read_manifest(slot["snapshot"])
    _loaded["pipeline"] = resolved.read(slot["pipeline"])
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
