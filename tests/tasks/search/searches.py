"""Searches for tests: real data, real fits, slots as processes of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import IO, Any

from mlflow.entities import Run

from tasks.base.refs import RunRef, SlotRef
from tasks.base.settings import REPOSITORY
from tasks.clients import database, tracking
from tasks.pipeline.schema import Pipeline, Split
from tasks.prepare.make import make_snapshot
from tasks.records import resolved

FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
SPACE: dict[str, Any] = {
    "choice": [
        {"estimator": "ridge", "alpha": {"loguniform": [-7, 5]}},
        {
            "estimator": "elastic_net",
            "alpha": {"loguniform": [-7, 2]},
            "l1_ratio": {"uniform": [0, 1]},
        },
        {
            "estimator": "decision_tree",
            "max_depth": {"uniformint": [1, 12]},
            "min_samples_leaf": {"choice": [1, 5, {"uniformint": [10, 30]}]},
        },
    ]
}
ENDLESS = {"estimator": "gradient_boosting", "n_estimators": 1_000_000, "max_depth": 1}
"""A fit of an hour that takes little memory."""


def pipeline(name: str = "diabetes", **search: Any) -> Pipeline:
    """A pipeline on scikit-learn's diabetes data."""
    return Pipeline.model_validate(
        {
            "name": name,
            "description": "test",
            "owner": "tests",
            "data": {
                "sources": [{"uri": "sklearn://diabetes"}],
                "target": "target",
                "task": "regression",
                "columns": {column: {} for column in (*FEATURES, "target")},
            },
            "search": {"slots": 1, "trials": 12, "space": SPACE} | search,
            "metric": {"name": "rmse", "direction": "minimize"},
        }
    )


@cache
def snapshot(validation: float = 0.2) -> str:
    """URI of the snapshot's manifest."""
    return make_snapshot(pipeline().model_copy(update={"split": Split(validation=validation)})).uri


def begin(definition: Pipeline) -> RunRef:
    """Make a parent run for a new search."""
    name = definition.name
    run = tracking.client().create_run(tracking.experiment(name), run_name=uuid.uuid4().hex)
    return RunRef(
        name=name,
        run_id=run.info.run_id,
        pipeline_uri=resolved.write(definition),
        snapshot_uri=snapshot(),
    )


def slot_of(run: RunRef, number: int = 0) -> SlotRef:
    """The reference of a slot."""
    return SlotRef(**run.model_dump(), slot=number)


def start(
    run: RunRef, log: Path, number: int = 0, code: Path = REPOSITORY, guard_s: int = 10
) -> subprocess.Popen[bytes]:
    """Start a slot as Airflow does: a process of its own, watched by a guardian."""
    with log.open("ab") as file:
        return spawn(run, file, number, code, guard_s)


def spawn(
    run: RunRef, log: IO[bytes], number: int, code: Path = REPOSITORY, guard_s: int = 10
) -> subprocess.Popen[bytes]:
    """Start this module as a program, from the copy of the repository in `code`."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.tasks.search.searches"),
            *(slot_of(run, number).model_dump_json(), str(guard_s)),
        ],
        cwd=code,
        stdout=log,
        stderr=log,
    )


def copy_with_family(folder: Path, name: str, module: str) -> Path:
    """A copy of the code with one more model family."""
    for part in ("tasks", "tests"):
        shutil.copytree(REPOSITORY / part, folder / part, dirs_exist_ok=True)
    (folder / "tasks" / "models" / "estimators" / f"{name}.py").write_text(module)
    return folder


def rows(search: str, columns: str = "tid, vals, outcome, loss") -> list[tuple[Any, ...]]:
    """The table's rows of a search."""
    with closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"select {columns} from trial where search = %s order by tid", (search,))
        return cursor.fetchall()


def children(run: RunRef) -> list[Run]:
    """All child runs, by trial."""
    runs = tracking.client().search_runs(
        [tracking.experiment(run.name)], f"tags.`{tracking.PARENT}` = '{run.run_id}'"
    )
    return sorted(runs, key=lambda child: int(child.data.tags[tracking.TRIAL]))


def main() -> None:
    """Run one slot."""
    import faulthandler
    import logging
    import signal

    from tasks.base.process import guarded
    from tasks.search import search

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    faulthandler.register(signal.SIGUSR1)  # shows where it hangs
    with guarded(int(sys.argv[2])):
        print(search(SlotRef.model_validate_json(sys.argv[1])))


if __name__ == "__main__":
    main()
