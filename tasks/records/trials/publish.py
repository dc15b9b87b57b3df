"""From rows of the table to child runs of MLflow: exactly one a trial, whoever dies on the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import RestException

from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.clients import tracking
from tasks.clients.database import Connection, connect, lock_key
from tasks.pipeline.nodes import ESTIMATOR

log = logging.getLogger(__name__)

OTHERS_LIMIT = 60.0
"""Seconds that `publish_rest` waits for rows that another process is publishing."""
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})
"""MLflow's answers that another try would only repeat: somebody deleted the run, say."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


@dataclass(frozen=True)
class Trial:
    """A recorded trial."""

    tid: int
    params: dict[str, Any]
    outcome: str
    metrics: dict[str, float]
    error: str | None
    curves: dict[str, list[float]]
    warnings: str | None
    began: datetime
    ended: datetime
    run_id: str | None

    @property
    def name(self) -> str:
        """What a person sees in MLflow's list."""
        return f"trial {self.tid:03d} {self.params[ESTIMATOR]}"


class Desk:
    """Publishes the rows of one search, over a database session of its own.

    The advisory lock of a row keeps two processes from publishing it twice.
    """

    def __init__(self, run: RunRef, connection: Connection) -> None:
        self._run, self._connection = run, connection
        self._key = lock_key(f"publish {run.run_id}")
        self._client = tracking.client()
        with tracking.answering():
            self._experiment = tracking.experiment(run.name)

    def publish_open(self) -> int:
        """Publish what is recorded and not yet published; returns how many others have in hand."""
        held = 0
        for (tid,) in self._query(
            "select tid from trial where search = %s and outcome is not null and not published"
            " order by tid",
            self._run.run_id,
        ):
            if not self._try_lock(tid):
                held += 1
                continue
            with self._unlocking(tid), tracking.answering():
                self._publish(tid)
        return held

    def sweep(self) -> None:
        """Delete child runs that no row names: their maker was killed before it could note them."""
        with tracking.answering():
            children = self._open_children()
        for child in children:
            tid = int(child.data.tags[tracking.TRIAL])
            if not self._try_lock(tid):
                continue  # it is being made just now
            with self._unlocking(tid), tracking.answering():
                self._delete_unless_named(tid, child.info.run_id)

    def _publish(self, tid: int) -> None:
        row = self._query(
            "select tid, params, outcome, metrics, error, curves, warnings, began_at, ended_at,"
            " run_id from trial where search = %s and tid = %s and not published",
            *(self._run.run_id, tid),
        )
        if not row:
            return  # somebody did it between the list and the lock
        trial = Trial(*row[0])
        try:
            self._write(trial, trial.run_id or self._create(trial))
        except RestException as err:
            if err.error_code not in REFUSALS:
                raise
            log.error("MLflow refuses trial %d: %s", tid, err)
            self._close_refused(tid)
        self._query(
            "update trial set published = true where search = %s and tid = %s",
            *(self._run.run_id, tid),
        )

    def _write(self, trial: Trial, run_id: str) -> None:
        """Fill the run and end it. Repeated, it writes the same again."""
        ended = _milliseconds(trial.ended)
        told = {"error": trial.error, "warnings": trial.warnings}
        self._client.log_batch(
            run_id,
            metrics=[
                *(Metric(name, value, ended, 0) for name, value in trial.metrics.items()),
                *(
                    Metric(name, value, ended, epoch)
                    for name, curve in trial.curves.items()
                    for epoch, value in enumerate(curve, 1)
                ),
            ],
            params=[Param(name, str(value)) for name, value in trial.params.items()],
            tags=[RunTag(name, text) for name, text in told.items() if text],
        )
        self._client.set_terminated(run_id, STATUS[trial.outcome], ended)

    def _close_refused(self, tid: int) -> None:
        """A run whose content was refused ends all the same; one that was deleted is gone."""
        ((run_id,),) = self._query(
            "select run_id from trial where search = %s and tid = %s", *(self._run.run_id, tid)
        )
        if run_id is not None:
            with suppress(RestException):
                self._client.set_terminated(run_id, "FAILED")

    def _delete_unless_named(self, tid: int, run_id: str) -> None:
        named = self._query(
            "select 1 from trial where search = %s and tid = %s and run_id = %s",
            *(self._run.run_id, tid, run_id),
        )
        if not named:
            log.info("deleting a stray run of trial %d: %s", tid, run_id)
            self._client.delete_run(run_id)

    def _create(self, trial: Trial) -> str:
        run = self._client.create_run(
            self._experiment,
            start_time=_milliseconds(trial.began),
            tags={tracking.PARENT: self._run.run_id, tracking.TRIAL: str(trial.tid)},
            run_name=trial.name,
        )
        run_id = str(run.info.run_id)
        self._query(
            "update trial set run_id = %s where search = %s and tid = %s",
            *(run_id, self._run.run_id, trial.tid),
        )
        return run_id

    def _open_children(self) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.`{tracking.PARENT}` = '{self._run.run_id}'"
                " and attributes.status = 'RUNNING'",
                page_token=token,
            )
            found += page
            token = page.token
            if not token:
                return found

    def _try_lock(self, tid: int) -> bool:
        got: bool = self._query("select pg_try_advisory_lock(%s, %s)", self._key, tid)[0][0]
        return got

    @contextmanager
    def _unlocking(self, tid: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._query("select pg_advisory_unlock(%s, %s)", self._key, tid)

    def _query(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, args)
                return cursor.fetchall() if cursor.description else []
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
            raise UnavailableError("PostgreSQL does not answer.", why=str(err).strip()) from err


def publish_rest(run: RunRef) -> None:
    """Publish every recorded trial that is not, and delete what was begun twice.

    Raises:
        UnavailableError: MLflow or PostgreSQL does not answer, or another process holds a row.
    """
    deadline = time.monotonic() + OTHERS_LIMIT
    with closing(connect(application="publish")) as connection:
        desk = Desk(run, connection)
        while held := desk.publish_open():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{held} trials are still held by another process.")
            time.sleep(0.5)
        desk.sweep()


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp() * 1000)
