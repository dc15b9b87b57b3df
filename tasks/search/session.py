"""The PostgreSQL session of a slot. It is the lease on the trials that the slot works on.

The session holds an advisory lock for each of them and makes every write. It goes with the
process, or a few seconds after the process stopped, and with it goes the right to write: whoever
lost the lock cannot record a trial.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

import psycopg2

from tasks.clients.database import connect, lock_key

IDLE_TIMEOUT = 4
PING = 1.0
START = -1
"""The lock under which a search's first points are written; trials are locked by their number."""


class LeaseLostError(Exception):
    """The session is gone, and with it the lock: what was being done is somebody else's now."""


class Lease:
    """A session that PostgreSQL ends once its process was silent for some seconds."""

    def __init__(self, search: str) -> None:
        self.search = search
        self.lost = threading.Event()
        self._key = lock_key(search)
        self._connection = connect(application=f"slot {search}")
        self.query(f"set idle_session_timeout = '{IDLE_TIMEOUT}s'")
        threading.Thread(target=self._ping, name="ping", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lost.set()
        self._connection.close()

    def query(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Run one statement; `[]` for one that returns nothing.

        Raises:
            LeaseLostError: The session has ended.
        """
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, args)
                return cursor.fetchall() if cursor.description else []
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
            self.lost.set()
            raise LeaseLostError(str(err).strip()) from err

    def try_lock(self, tid: int) -> bool:
        """Take the lock of a trial if it is free. Locks are counted: never take one twice."""
        got: bool = self.query("select pg_try_advisory_lock(%s, %s)", self._key, tid)[0][0]
        return got

    def lock(self, tid: int) -> None:
        """Take a lock, waiting for it."""
        self.query("select pg_advisory_lock(%s, %s)", self._key, tid)

    def unlock(self, tid: int) -> None:
        """Give a lock back."""
        self.query("select pg_advisory_unlock(%s, %s)", self._key, tid)

    def _ping(self) -> None:
        while not self.lost.wait(PING):
            try:
                self.query("select 1")
            except LeaseLostError:
                return
