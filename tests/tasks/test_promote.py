"""Promotion against real MLflow and PostgreSQL. The versions have no files: no model is loaded."""

from __future__ import annotations

import pytest

from tasks import promote
from tasks.base.errors import ConflictError, UserError
from tasks.base.settings import Settings
from tasks.clients import tracking
from tasks.records import champion, ledger, registry
from tests.tasks.promotions import build, challenge, kinds, made, production


@pytest.fixture
def name(servers: Settings) -> str:
    return made()


def test_promote_moves_the_aliases_and_records_it(name: str) -> None:
    challenge(name, 2)
    registry.restage(name)
    assert promote.promote(build(name, 2, 1), "dag/run") == {"champion": 2, "previous": 1}
    assert registry.aliases(name) == {"champion": 2, "previous": 1}
    assert kinds(name) == ["intent 1>2", "moved 1>2"]
    moved = ledger.history(name)[0]
    assert (moved.actor, moved.reason) == ("dag/run", "it is better")
    assert production(name) == [2]
    assert registry.versions(name)[1].tags[tracking.STAGE] == "Archived"


def test_the_first_champion_has_no_previous(name: str) -> None:
    assert registry.aliases(name) == {"champion": 1}


def test_a_newer_challenger_keeps_its_alias(name: str) -> None:
    challenge(name, 3)
    promote.promote(build(name, 2, 1), "a")
    assert registry.aliases(name) == {"champion": 2, "previous": 1, "challenger": 3}


def test_repeating_a_finished_promote_changes_nothing(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    before = ledger.history(name)
    assert promote.promote(build(name, 2, 1), "a") == {"champion": 2, "previous": 1}
    assert ledger.history(name) == before


def test_repeating_a_promote_does_not_undo_a_rollback(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    champion.rollback(name, None, "it fails", "ann")
    assert promote.promote(build(name, 2, 1), "a")["champion"] == 1


def test_a_champion_that_changed_refuses_the_promote(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    with pytest.raises(ConflictError, match=r"champion is version 2; .* against version 1"):
        promote.promote(build(name, 3, 1), "b")
    with pytest.raises(ConflictError):
        promote.promote(build(name, 3, 1), "b")
    assert kinds(name) == ["intent 1>2", "moved 1>2", "refused 1>3"]
    assert registry.aliases(name)["champion"] == 2


def test_an_alias_moved_by_hand_refuses_a_promote_against_the_old_one(name: str) -> None:
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, "4")
    with pytest.raises(ConflictError):
        promote.promote(build(name, 2, 1), "a")
    assert registry.aliases(name)["champion"] == 4


def test_a_version_that_the_gate_did_not_pass_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="did not pass"):
        promote.promote(build(name, 2, 1, promote=False, verdict="inconclusive"), "a")
    assert kinds(name) == []


def test_rollbacks_go_back_one_by_one(name: str) -> None:
    for version in (2, 3, 4):
        promote.promote(build(name, version, version - 1), "a")
    assert champion.rollback(name, None, "worse", "ann") == {"champion": 3, "previous": 2}
    assert champion.rollback(name, None, "worse", "ann") == {"champion": 2, "previous": 1}
    assert champion.rollback(name, None, "worse", "ann") == {"champion": 1, "previous": None}
    with pytest.raises(UserError, match="no version with the alias 'previous'"):
        champion.rollback(name, None, "worse", "ann")
    assert production(name) == [1]
    assert kinds(name)[-2:] == ["intent 2>1", "moved 2>1"]
    assert ledger.history(name)[0].reason == "worse"


def test_rollback_to_a_version_and_forward_again(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    promote.promote(build(name, 3, 2), "a")
    assert champion.rollback(name, 1, "worse", "ann") == {"champion": 1, "previous": None}
    assert champion.rollback(name, 3, "better after all", "ann") == {"champion": 3, "previous": 2}


def test_rollback_names_the_versions_to_choose_from(name: str) -> None:
    promote.promote(build(name, 2, 1), "a")
    registry.judge(name, 4, "reject", may_promote=False)
    for wrong in (4, 9):
        with pytest.raises(UserError, match=r"choose from: 5, 3, 1\."):
            champion.rollback(name, wrong, "worse", "ann")
    with pytest.raises(UserError, match="champion already"):
        champion.rollback(name, 2, "worse", "ann")
    with pytest.raises(UserError, match="no champion"):
        champion.rollback("no_such_model", None, "worse", "ann")
    assert kinds(name) == ["intent 1>2", "moved 1>2"]


def test_a_previous_that_was_deleted_is_not_named(name: str) -> None:
    for version in (2, 3):
        promote.promote(build(name, version, version - 1), "a")
    tracking.client().delete_model_version(name, "1")
    assert champion.rollback(name, None, "worse", "ann") == {"champion": 2, "previous": None}
