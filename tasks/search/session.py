"""The PostgreSQL session of a slot, which is its lease on the trials that it works on.

The session holds an advisory lock for each of these trials and makes every write. It ends with the
process, or a few seconds after the process was stopped, and the right to write ends with it: a slot
that lost the lock cannot record a trial.
"""

from __future__ import annotations

import threading
from typing import Any, Self

from tasks.clients import database

IDLE_TIMEOUT = 4
"""Seconds of silence after which PostgreSQL ends the session."""
PING = 1.0
START = -1
"""Lock for writing a search's first points; trials are locked by their number."""


class LeaseLostError(Exception):
    """The session is gone, and its locks too: another slot can take over its trials."""


class Lease:
    """A session that PostgreSQL ends once its process has been silent for some seconds."""

    def __init__(self, search: str) -> None:
        self.search = search
        self.lost = threading.Event()
        self._key = database.lock_key(search)
        self._connection = database.connect(application=f"slot {search}")
        self.query(f"set idle_session_timeout = '{IDLE_TIMEOUT}s'")
        threading.Thread(target=self._ping, name="ping", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.lost.set()
        self._connection.close()

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement; returns its rows, or `[]` if it has none to return.

        Raises:
            LeaseLostError: The session has ended.
        """
        try:
            return database.query(self._connection, sql, *values)
        except database.LOST as err:
            self.lost.set()
            raise LeaseLostError(str(err).strip()) from err

    def try_lock(self, tid: int) -> bool:
        """Take the lock of a trial if it is free. Locks are counted: never take one twice."""
        return bool(self.query("select pg_try_advisory_lock(%s, %s)", self._key, tid)[0][0])

    def lock(self, tid: int) -> None:
        """Wait for a lock and take it."""
        self.query("select pg_advisory_lock(%s, %s)", self._key, tid)

    def unlock(self, tid: int) -> None:
        """Release a lock."""
        self.query("select pg_advisory_unlock(%s, %s)", self._key, tid)

    def _ping(self) -> None:
        while not self.lost.wait(PING):
            try:
                self.query("select 1")
            except LeaseLostError:
                return
