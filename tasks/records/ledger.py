"""The append-only record of decisions, moves of the champion alias and deployments.

The role that writes it can only insert and read. A row has a unique `key`, so a repeated write adds
no second row. Without a connection each call opens its own; a move passes the one with its lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json, RealDictCursor
from pydantic import BaseModel, ConfigDict

from tasks.clients import database
from tasks.clients.database import Connection

Kind = Literal["decision", "intent", "moved", "undone", "refused", "deployed"]


class Entry(BaseModel):
    """One row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    at: datetime
    pipeline: str
    kind: Kind
    actor: str
    from_version: int | None
    to_version: int | None
    reason: str
    evidence: dict[str, Any]
    key: str


def append(  # noqa: PLR0913 - the columns
    *,
    kind: Kind,
    pipeline: str,
    actor: str,
    from_version: int | None,
    to_version: int | None,
    reason: str,
    evidence: Mapping[str, Any],
    key: str,
    connection: Connection | None = None,
) -> bool:
    """Write a row unless one with this key exists.

    Returns:
        False if a row with this key existed.
    """
    with _cursor(connection) as cursor:
        cursor.execute(
            "insert into ledger"
            " (kind, pipeline, actor, from_version, to_version, reason, evidence, key)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (key) do nothing",
            (kind, pipeline, actor, from_version, to_version, reason, Json(dict(evidence)), key),
        )
        return bool(cursor.rowcount)


def history(name: str, limit: int = 100) -> list[Entry]:
    """The newest rows of a pipeline, newest first."""
    return _select("pipeline = %s order by id desc limit %s", (name, limit))


def find(key: str, connection: Connection | None = None) -> Entry | None:
    """The row with this key."""
    rows = _select("key = %s", (key,), connection)
    return rows[0] if rows else None


def interrupted(name: str, connection: Connection | None = None) -> Entry | None:
    """The open intention: neither carried out nor given up. Moves take turns, so it is the last."""
    rows = _select(
        "pipeline = %s and kind in ('intent', 'moved', 'undone') order by id desc limit 1",
        (name,),
        connection,
    )
    return rows[0] if rows and rows[0].kind == "intent" else None


def moves(name: str, connection: Connection | None = None) -> list[Entry]:
    """The moves of the champion alias, newest first."""
    return _select("pipeline = %s and kind = 'moved' order by id desc", (name,), connection)


def decisions_on(name: str, test: str) -> int:
    """How many of the pipeline's decisions used the test part with this digest."""
    return len(
        _select("pipeline = %s and kind = 'decision' and evidence->>'test' = %s", (name, test))
    )


def _select(
    where: str, values: tuple[Any, ...], connection: Connection | None = None
) -> list[Entry]:
    with _cursor(connection) as cursor:
        cursor.execute(f"select * from ledger where {where}", values)  # noqa: S608 - our own text
        return [Entry.model_validate(dict(row)) for row in cursor.fetchall()]


@contextmanager
def _cursor(connection: Connection | None) -> Iterator[RealDictCursor]:
    used = connection or database.connect(application="ledger")
    try:
        with used.cursor(cursor_factory=RealDictCursor) as cursor:
            yield cursor
    finally:
        if connection is None:
            used.close()
