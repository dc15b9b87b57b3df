"""A LocalExecutor that exits if it cannot continue; the supervisor then restarts the scheduler.

With Airflow's own executor, killing the idle worker that held the queue's lock left all later tasks
queued while the scheduler looked healthy. And after any database error, the scheduler waited for
the running tasks before it ended.

This executor also imports the tasks' libraries before it forks its workers. Tasks are forks of a
worker and so start without importing for seconds.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from airflow.executors.local_executor import LocalExecutor

# Not `tasks`: each task imports that code afresh, so a change needs no restart.
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
    """Ends the scheduler if a worker dies, and does not wait for tasks when the scheduler ends.

    The workers and their tasks die with the scheduler (see airflow_local_settings). Each running
    task loses one try.
    """

    def start(self) -> None:
        """Import the libraries if the workers are forks, and start the workers."""
        if self.is_mp_using_fork:
            for library in _LIBRARIES:
                importlib.import_module(library)
        super().start()

    def _check_workers(self) -> None:
        dead = [pid for pid, worker in self.workers.items() if not worker.is_alive()]
        if dead:
            _exit(f"worker {', '.join(map(str, dead))} died")
        super()._check_workers()

    def end(self) -> None:
        """Exit without waiting for the running tasks."""
        _exit("the scheduler ends")


def _exit(reason: str) -> NoReturn:
    print(f"StrictLocalExecutor: {reason}; exiting at once.", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
