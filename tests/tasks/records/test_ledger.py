from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from tasks.base.settings import Settings
from tasks.clients import database
from tasks.records import ledger


@pytest.fixture
def name(database: Settings) -> str:
    return f"ledger_{uuid4().hex[:8]}"


def write(name: str, key: str, **fields: Any) -> bool:
    defaults = {
        "kind": "decision",
        "pipeline": name,
        "actor": "ann",
        "from_version": None,
        "to_version": 1,
        "reason": "because",
        "evidence": {"test": "abc"},
        "key": f"{name}:{key}",
    }
    return ledger.append(**defaults | fields)


def test_history_is_newest_first_and_complete(name: str) -> None:
    for number in range(3):
        assert write(name, str(number), to_version=number, evidence={"a": [1, None, "ü"]})
    entries = ledger.history(name)
    assert [entry.to_version for entry in entries] == [2, 1, 0]
    newest = entries[0]
    assert (newest.kind, newest.actor, newest.reason) == ("decision", "ann", "because")
    assert newest.from_version is None
    assert newest.evidence == {"a": [1, None, "ü"]}
    assert newest.at.tzinfo is not None
    assert [entry.to_version for entry in ledger.history(name, limit=2)] == [2, 1]
    assert ledger.history(f"{name}_other") == []


def test_the_same_key_writes_once(name: str) -> None:
    assert write(name, "k", reason="first")
    assert not write(name, "k", reason="second")
    assert [entry.reason for entry in ledger.history(name)] == ["first"]
    entry = ledger.find(f"{name}:k")
    assert entry is not None
    assert entry.reason == "first"
    assert ledger.find(f"{name}:other") is None


@pytest.mark.parametrize(
    ("kinds", "is_open"),
    [
        ([], False),
        (["intent"], True),
        (["intent", "moved"], False),
        (["intent", "undone"], False),
        (["intent", "moved", "intent"], True),
        (["intent", "decision", "deployed", "refused"], True),
        (["moved", "deployed"], False),
    ],
)
def test_an_intention_is_open_until_it_is_moved_or_undone(
    name: str, kinds: list[ledger.Kind], is_open: bool
) -> None:
    for number, kind in enumerate(kinds):
        write(name, str(number), kind=kind)
    intent = ledger.interrupted(name)
    assert (intent is not None) is is_open
    assert intent is None or intent.kind == "intent"


def test_decisions_on_a_test_part_are_counted(name: str) -> None:
    write(name, "1")
    write(name, "2")
    write(name, "3", evidence={"test": "other"})
    write(name, "4", kind="moved")
    assert ledger.decisions_on(name, "abc") == 2
    assert ledger.decisions_on(f"{name}_other", "abc") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set reason = 'nicer' where pipeline = %s",
        "delete from ledger where pipeline = %s",
        "truncate ledger -- %s",
        "drop table ledger -- %s",
        "alter table ledger add column extra text -- %s",
    ],
)
def test_nobody_with_the_role_can_change_what_is_written(name: str, statement: str) -> None:
    write(name, "1")
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == (database.ROLE,)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement, (name,))
    connection.close()
    assert [entry.reason for entry in ledger.history(name)] == ["because"]


def test_an_unknown_kind_is_refused_by_the_database(name: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        write(name, "1", kind="guess")
