"""Promotions and rollbacks: concurrent ones, and ones killed before each write."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from tasks import promote
from tasks.base.errors import ConflictError, UnavailableError
from tasks.base.settings import Settings
from tasks.clients import database, tracking
from tasks.records import champion, ledger, registry
from tests import deaths
from tests.deaths import CONFLICT, DIED, OK, Death, code
from tests.tasks.promotions import build, challenge, kinds, made, production

WRITES = (
    "mlflow:MlflowClient.set_registered_model_alias",
    "mlflow:MlflowClient.delete_registered_model_alias",
    "mlflow:MlflowClient.set_model_version_tag",
    "tasks.records.ledger:append",
)


@pytest.fixture
def name(servers: Settings) -> str:
    return made()


def start(work: str, *arguments: Any, dies_at: int | None = None) -> BaseProcess:
    """A function of `tasks.promote` in a process, which dies right before its `dies_at`th write."""
    death = None if dies_at is None else Death(WRITES, before=True, spared=dies_at)
    return deaths.start(
        getattr(promote if work == "promote" else champion, work), *arguments, death=death
    )


def wait_for_lock(name: str, waiting: int) -> None:
    """Wait until this many sessions wait for the lock of the pipeline."""
    connection, deadline = database.connect(), time.monotonic() + 30
    key = database.lock_key(f"promote/{name}") % 2**32
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"
                " and classid::bigint = %s",
                (key,),
            )
            if cursor.fetchone() == (waiting,):
                return
            time.sleep(0.02)
    pytest.fail(f"{waiting} processes did not reach the lock")


def queued(name: str, *calls: tuple[Any, ...]) -> list[int | None]:
    """Exit codes of calls that wait for the lock together, in this order."""
    with database.locked(f"promote/{name}"):
        children = []
        for number, call in enumerate(calls, 1):
            children.append(start(*call))
            wait_for_lock(name, number)
    return [code(process) for process in children]


def test_two_promotes_at_once_have_one_winner(name: str) -> None:
    calls = [("promote", build(name, version, 1), "a") for version in (2, 3)]
    assert queued(name, *calls) == [OK, CONFLICT]
    assert registry.aliases(name) == {"champion": 2, "previous": 1}
    assert kinds(name) == ["intent 1>2", "moved 1>2", "refused 1>3"]
    assert production(name) == [2]


def test_the_same_promote_twice_at_once_moves_once(name: str) -> None:
    call = ("promote", build(name, 2, 1), "a")
    assert queued(name, call, call) == [OK, OK]
    assert kinds(name) == ["intent 1>2", "moved 1>2"]


def test_a_rollback_waiting_behind_a_promote_is_refused(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    promotion = ("promote", build(name, 3, 2), "a")
    assert queued(name, promotion, ("rollback", name, None, "worse", "ann")) == [OK, CONFLICT]
    assert registry.aliases(name) == {"champion": 3, "previous": 2}
    assert kinds(name)[2:] == ["intent 2>3", "moved 2>3", "refused 2>2"]


def test_a_promote_waiting_behind_a_rollback_is_refused(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    promotion = ("promote", build(name, 3, 2), "a")
    assert queued(name, ("rollback", name, None, "worse", "ann"), promotion) == [OK, CONFLICT]
    assert registry.aliases(name) == {"champion": 1}
    assert kinds(name)[2:] == ["intent 2>1", "moved 2>1", "refused 2>3"]


REPAIRS: dict[str, Callable[[str], object]] = {
    "the same promote": lambda name: promote.promote(build(name, 3, 2), "a"),
    "deploy": champion.settle,
    "a rollback": lambda name: champion.rollback(name, 1, "worse", "ann"),
    "another promote": lambda name: promote.promote(build(name, 4, 3), "b"),
}


@pytest.mark.faults
@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.usefixtures("servers")
def test_a_promote_killed_before_any_write_is_repaired_by(repair: str) -> None:
    champions = []
    for step in range(20):
        name = made()
        promote.promote(build(name, 2, 1), "a")
        challenge(name, 3)
        registry.restage(name)
        ended = code(start("promote", build(name, 3, 2), "a", dies_at=step))
        with suppress(ConflictError):  # where the killed promote wins, the other is too late
            REPAIRS[repair](name)
        champions.append(whole(name))
        if ended == OK:
            break
        assert ended == DIED
    # The writes: intent, champion, previous, challenger, two stages, moved; then nothing is left.
    assert (
        champions
        == {
            "the same promote": [3, 3, 3, 3, 3, 3, 3, 3],
            "deploy": [2, 3, 3, 3, 3, 3, 3, 3],
            "a rollback": [1, 3, 1, 1, 1, 1, 1, 1],
            "another promote": [2, 4, 4, 4, 4, 4, 4, 4],
        }[repair]
    )


@pytest.mark.faults
@pytest.mark.usefixtures("servers")
def test_a_rollback_killed_before_any_write_is_finished_by_calling_it_again() -> None:
    champions = []
    for step in range(20):
        name = made()
        for version in (2, 3):
            promote.promote(build(name, version, version - 1), "a")
        ended = code(start("rollback", name, None, "worse", "ann", dies_at=step))
        if ended == OK:
            break
        assert ended == DIED
        champion.rollback(name, None, "worse", "ann")
        champions.append(whole(name))
        assert registry.aliases(name).get("previous") == 1
    assert champions == [2] * 6  # intent, champion, previous, two stages, moved


def test_an_intention_whose_champion_went_elsewhere_is_given_up(name: str) -> None:
    assert code(start("promote", build(name, 2, 1), "a", dies_at=1)) == DIED
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, "4")
    champion.settle(name)
    assert kinds(name) == ["intent 1>2", "undone 1>2"]
    assert registry.aliases(name) == {"champion": 4}
    assert production(name) == [4]
    # moved back by hand, the promote succeeds after all
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, "1")
    promote.promote(build(name, 2, 1), "a")
    assert kinds(name)[2:] == ["intent 1>2", "moved 1>2"]


def test_an_intention_whose_version_was_deleted_is_given_up(name: str) -> None:
    assert code(start("promote", build(name, 2, 1), "a", dies_at=1)) == DIED
    tracking.client().delete_model_version(name, "2")
    champion.settle(name)
    assert kinds(name) == ["intent 1>2", "undone 1>2"]
    assert registry.aliases(name) == {"champion": 1}


@pytest.mark.parametrize("step", ["set_registered_model_alias", "set_model_version_tag"])
def test_a_promote_that_lost_its_lock_stops_and_the_next_repairs(
    name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tracking.client()
    write = getattr(client, step)

    def losing_the_lock(*arguments: Any) -> None:
        monkeypatch.undo()
        other = database.connect()
        with other.cursor() as cursor:
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = %s",
                (f"lock promote/{name}",),
            )
        other.close()
        write(*arguments)

    monkeypatch.setattr(client, step, losing_the_lock)
    with pytest.raises(UnavailableError, match="went away while the champion"):
        promote.promote(build(name, 2, 1), "a")
    assert kinds(name) == ["intent 1>2"]
    if step == "set_registered_model_alias":  # no other alias was moved without the lock
        assert registry.aliases(name) == {"champion": 2}
    promote.promote(build(name, 2, 1), "a")
    assert kinds(name) == ["intent 1>2", "moved 1>2"]
    assert whole(name) == 2


def whole(name: str) -> int:
    """The champion; fails unless aliases, stages and ledger agree about it."""
    marks, entries = registry.aliases(name), list(reversed(ledger.history(name)))
    assert ledger.interrupted(name) is None
    moves = [entry for entry in entries if entry.kind in ("intent", "moved")]
    for intent, moved in zip(moves[::2], moves[1::2], strict=True):
        assert (intent.kind, moved.kind) == ("intent", "moved")
        assert intent.evidence == moved.evidence
    assert moves[-1].to_version == marks["champion"]
    assert marks.get("challenger") != marks["champion"]
    for number, entry in registry.versions(name).items():
        due = registry.stage(number, marks, registry.passed(entry))
        assert entry.tags[tracking.STAGE] == due
    return marks["champion"]
