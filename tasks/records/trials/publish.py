"""From rows of the table to child runs in MLflow: exactly one per trial, whichever process dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from mlflow.exceptions import RestException

from tasks.base.errors import UnavailableError
from tasks.base.refs import RunRef
from tasks.clients import database, tracking
from tasks.clients.database import Connection
from tasks.records.trials import child_runs
from tasks.records.trials.table import COLUMNS, Trial

log = logging.getLogger(__name__)

OTHERS_LIMIT = 60.0
"""Seconds that `publish_rest` waits for rows that another process is publishing."""


class TrialPublisher:
    """Publishes the rows of one search, over a database session of its own.

    The advisory lock of a row keeps two processes from publishing it twice.
    """

    def __init__(self, run: RunRef, connection: Connection) -> None:
        self._search, self._connection = run.run_id, connection
        self._key = database.lock_key(f"publish {run.run_id}")
        with tracking.answering():
            self._experiment_id = tracking.experiment(run.name)

    def publish_recorded(self) -> int:
        """Publish the recorded rows; returns how many of them other processes have locked."""
        locked_elsewhere = 0
        for (tid,) in self._query(
            "select tid from trial where search = %s and outcome is not null and not published"
            " order by tid",
            self._search,
        ):
            if not self._try_lock(tid):
                locked_elsewhere += 1
                continue
            with self._unlocking(tid), tracking.answering():
                self._publish(tid)
        return locked_elsewhere

    def delete_strays(self) -> None:
        """Delete child runs that no row names: their maker was killed before it noted their id."""
        with tracking.answering():
            children = child_runs.running(self._experiment_id, self._search)
        for child in children:
            tid = int(child.data.tags[tracking.TRIAL])
            if not self._try_lock(tid):
                continue  # another process is making it
            with self._unlocking(tid), tracking.answering():
                self._delete_unless_named(tid, child.info.run_id)

    def _publish(self, tid: int) -> None:
        trial = self._read(tid)
        if trial is None:
            return  # another process published it between the list and the lock
        run_id = trial.run_id
        try:
            run_id = run_id or self._create(trial)
            child_runs.fill(run_id, trial)
        except RestException as err:
            # A person deleted the run, for example: another try would fail as well.
            if not tracking.is_final(err):
                raise
            log.error("MLflow refuses trial %d: %s", tid, err)
            if run_id is not None:
                with suppress(RestException):  # the run may be deleted
                    tracking.client().set_terminated(run_id, "FAILED")
        self._query(
            "update trial set published = true where search = %s and tid = %s", self._search, tid
        )

    def _read(self, tid: int) -> Trial | None:
        """The trial, if it is not published yet."""
        rows = self._query(
            f"select {COLUMNS}, curves from trial"  # noqa: S608 - our own text
            " where search = %s and tid = %s and not published",
            *(self._search, tid),
        )
        return Trial(*rows[0]) if rows else None

    def _create(self, trial: Trial) -> str:
        run_id = child_runs.create(self._experiment_id, self._search, trial)
        self._query(
            "update trial set run_id = %s where search = %s and tid = %s",
            *(run_id, self._search, trial.tid),
        )
        return run_id

    def _delete_unless_named(self, tid: int, run_id: str) -> None:
        named = self._query(
            "select 1 from trial where search = %s and tid = %s and run_id = %s",
            *(self._search, tid, run_id),
        )
        if not named:
            log.info("deleting a stray run of trial %d: %s", tid, run_id)
            tracking.client().delete_run(run_id)

    def _try_lock(self, tid: int) -> bool:
        return bool(self._query("select pg_try_advisory_lock(%s, %s)", self._key, tid)[0][0])

    @contextmanager
    def _unlocking(self, tid: int) -> Iterator[None]:
        try:
            yield
        finally:
            self._query("select pg_advisory_unlock(%s, %s)", self._key, tid)

    def _query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return database.query(self._connection, sql, *values)
        except database.LOST as err:
            raise UnavailableError("PostgreSQL does not answer.", why=str(err).strip()) from err


def publish_rest(run: RunRef) -> None:
    """Publish every recorded trial that is not published yet, and delete stray child runs.

    Raises:
        UnavailableError: MLflow or PostgreSQL does not answer, or another process locks a row.
    """
    deadline = time.monotonic() + OTHERS_LIMIT
    with closing(database.connect(application="publish")) as connection:
        publisher = TrialPublisher(run, connection)
        while count := publisher.publish_recorded():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{count} trials are still held by another process.")
            time.sleep(0.5)
        publisher.delete_strays()
