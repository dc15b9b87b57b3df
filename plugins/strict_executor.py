"""LocalExecutor that leaves when it cannot go on, so that the supervisor starts a sound scheduler.

With Airflow's own, killing the idle worker that held the queue's lock left every later task queued
while the scheduler looked healthy; and after any database error the scheduler waited for the
running tasks before it ended.

It also imports the tasks' libraries once, before it forks its workers: each task, a fork of a
worker, has them already instead of paying seconds for them.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from airflow.executors.local_executor import LocalExecutor

# Not `tasks`: its code is read anew by each task, so that a change needs no restart.
_LIBRARIES = (
    "airflow.providers.standard.operators.python",
    "airflow.sdk.execution_time.task_runner",
    "boto3",
    "hyperopt",
    "matplotlib.figure",
    "mlflow.data.pandas_dataset",
    "mlflow.models",
    "mlflow.sklearn",
    "pandera.pandas",
    "psycopg2",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "skops.io",
)


class StrictLocalExecutor(LocalExecutor):
    """Ends the scheduler when a worker died, and ends at once when the scheduler does.

    The workers and their tasks go with the scheduler (airflow_local_settings); each running task
    loses one try.
    """

    def start(self) -> None:
        """Fork the workers, with the libraries where they are forked."""
        if self.is_mp_using_fork:
            for library in _LIBRARIES:
                importlib.import_module(library)
        super().start()

    def _check_workers(self) -> None:
        dead = [pid for pid, worker in self.workers.items() if not worker.is_alive()]
        if dead:
            _leave(f"worker {', '.join(map(str, dead))} died")
        super()._check_workers()

    def end(self) -> None:
        """Leave without waiting for the running tasks."""
        _leave("the scheduler ends")


def _leave(reason: str) -> NoReturn:
    print(f"StrictLocalExecutor: {reason}; leaving at once.", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
