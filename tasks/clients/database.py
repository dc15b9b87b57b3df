"""PostgreSQL: the trials of a search, the ledger, and advisory locks."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from tasks.base.commands import typed
from tasks.base.errors import UnavailableError
from tasks.base.settings import settings

log = logging.getLogger(__name__)

ROLE = "mlops"
Connection = psycopg2.extensions.connection
LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)
"""What psycopg2 raises when the server or the session is gone."""


def connect(dsn: str | None = None, *, application: str = "mlops") -> Connection:
    """An autocommitting connection that notices a dead server within about 20 seconds.

    Raises:
        UnavailableError: PostgreSQL did not answer, or refused the login.
    """
    if not (dsn or settings().database):
        raise UnavailableError("The stack is not up.", fix=f"Start it: {typed('up')}")
    try:
        connection = psycopg2.connect(
            dsn or settings().database,
            application_name=application,
            connect_timeout=10,
            keepalives_idle=5,
            keepalives_interval=5,
            keepalives_count=3,
        )
    except psycopg2.OperationalError as err:
        raise UnavailableError(
            "PostgreSQL does not answer.",
            why=str(err).strip(),
            fix=f"Is the stack up? {typed('status')}",
        ) from err
    connection.autocommit = True
    return connection


def query(connection: Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run one statement; returns its rows, or `[]` if it has none to return."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def lock_key(name: str) -> int:
    """The 32-bit advisory-lock key of a name. A collision only causes a delay."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big", signed=True)


@contextmanager
def locked(name: str, wait_s: float = 900) -> Iterator[Connection]:
    """Hold the advisory lock `name` on the yielded connection, which fails once the lock is lost.

    Raises:
        UnavailableError: Another process held the lock for `wait_s` seconds.
    """
    connection = connect(application=f"lock {name}"[:63])
    try:
        query(connection, "set lock_timeout = %s", f"{wait_s * 1000:.0f}ms")
        try:
            query(connection, "select pg_advisory_lock(%s, 0)", lock_key(name))
        except psycopg2.errors.LockNotAvailable as err:
            raise UnavailableError(
                f"Another process has been busy with {name} for {wait_s:.0f} s.",
                fix="Try again. If that process hangs, end it: this releases its lock.",
            ) from err
        query(connection, "reset lock_timeout")
        yield connection
    finally:
        connection.close()


def migrate(dsn: str) -> None:
    """Create the tables as their owner, and grant the role `mlops` only what it needs."""
    with closing(connect(dsn, application="migrate")) as connection, connection.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(%s, 0)", (lock_key("migrate"),))
        cursor.execute(Path(__file__).with_name("schema.sql").read_text())
        cursor.execute(
            f"grant select, insert, update on trial to {ROLE};"
            f"grant select, insert on ledger to {ROLE};"
        )
