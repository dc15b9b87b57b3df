"""LocalExecutor that leaves when it cannot go on, so that the supervisor starts a sound scheduler.

With Airflow's own, killing the idle worker that held the queue's lock left every later task queued
while the scheduler looked healthy; and after any database error the scheduler waited for the
running tasks before it ended.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from airflow.executors.local_executor import LocalExecutor


class StrictLocalExecutor(LocalExecutor):
    """Ends the scheduler when a worker died, and ends at once when the scheduler does.

    The workers and their tasks go with the scheduler (airflow_local_settings); each running task
    loses one try.
    """

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
