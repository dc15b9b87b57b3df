"""The append-only record of decisions, moves of the champion alias and deployments.

The role that writes it can only insert and read. A row has a unique `key`, so a repeated write adds
no second row. Without a connection each call opens its own; a move passes the one with its lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json
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
    rows = _query(
        connection,
        "insert into ledger"
        " (kind, pipeline, actor, from_version, to_version, reason, evidence, key)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (key) do nothing returning id",
        *(kind, pipeline, actor, from_version, to_version, reason, Json(dict(evidence)), key),
    )
    return bool(rows)


def history(name: str, limit: int = 100) -> list[Entry]:
    """The newest rows of a pipeline, newest first."""
    return _select(None, "pipeline = %s order by id desc limit %s", name, limit)


def find(key: str, connection: Connection | None = None) -> Entry | None:
    """The row with this key."""
    return next(iter(_select(connection, "key = %s", key)), None)


def interrupted(name: str, connection: Connection | None = None) -> Entry | None:
    """The open intention: neither carried out nor given up. Moves take turns, so it is the last."""
    entries = _select(
        connection,
        "pipeline = %s and kind in ('intent', 'moved', 'undone') order by id desc limit 1",
        name,
    )
    return entries[0] if entries and entries[0].kind == "intent" else None


def moves(name: str, connection: Connection | None = None) -> list[Entry]:
    """The moves of the champion alias, newest first."""
    return _select(connection, "pipeline = %s and kind = 'moved' order by id desc", name)


def decisions_on(name: str, test: str) -> int:
    """How many of the pipeline's decisions used the test part with this digest."""
    where = "pipeline = %s and kind = 'decision' and evidence->>'test' = %s"
    return len(_select(None, where, name, test))


def _select(connection: Connection | None, where: str, *values: Any) -> list[Entry]:
    sql = f"select {', '.join(Entry.model_fields)} from ledger where {where}"  # noqa: S608 - ours
    rows = _query(connection, sql, *values)
    return [Entry(**dict(zip(Entry.model_fields, row, strict=True))) for row in rows]


def _query(connection: Connection | None, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    if connection is not None:
        return database.query(connection, sql, *values)
    with closing(database.connect(application="ledger")) as own:
        return database.query(own, sql, *values)
