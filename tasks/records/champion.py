"""Moves of the champion alias: one at a time, recorded, and repaired if interrupted.

A move writes `intent` to the ledger, then sets aliases and stage tags, then writes `moved`. It
holds the pipeline's advisory lock, and writes the ledger on the connection with the lock. The next
holder of the lock finishes an intention that was left open, or gives it up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from tasks.base.errors import ConflictError, UnavailableError, UserError
from tasks.clients import database, tracking
from tasks.clients.database import Connection
from tasks.clients.tracking import CHALLENGER, CHAMPION, PREVIOUS
from tasks.records import ledger, registry

log = logging.getLogger(__name__)


class Move(BaseModel):
    """One move of the champion alias, as the ledger stores it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["promote", "rollback"]
    name: str
    origin: int | None
    target: int
    previous: int | None
    """The version that the alias `previous` names afterwards."""
    reason: str
    actor: str
    key: str


def advance(move: Move) -> dict[str, Any]:
    """Make `move.target` champion, and the champion before it `previous`.

    Repeating a move that was carried out changes nothing, even after it was rolled back.

    Returns:
        The versions of the aliases `champion` and `previous`.

    Raises:
        ConflictError: The champion is not `move.origin`.
    """
    with _lock(move.name) as lock:
        _settle(move.name, lock)
        if ledger.find(f"moved:{move.key}", lock) is None and move.origin != move.target:
            champion = tracking.alias_version(move.name, CHAMPION)
            # An alias that a person moved to the version is no conflict: the move is recorded.
            if champion not in (move.origin, move.target):
                raise _refused(lock, move, champion)
            _begin(lock, move)
        return _state(move.name)


def rollback(name: str, to: int | None, reason: str, actor: str) -> dict[str, Any]:
    """Make an earlier version champion again: `to`, or the one with the alias `previous`.

    `previous` then names the champion that the target replaced when it was promoted, so a second
    rollback goes one version further back instead of forward. Without such a version the alias is
    removed. An interrupted rollback is finished, not followed by a second one.

    Raises:
        UserError: No version to go back to exists, or `to` cannot be one.
        ConflictError: The champion changed while this call waited for its turn.
    """
    expected = tracking.alias_version(name, CHAMPION)
    with _lock(name) as lock:
        move = _settle(name, lock)
        if move is None or move.kind != "rollback" or to not in (None, move.target):
            champion = tracking.alias_version(name, CHAMPION)
            target = _target(name, to)
            move = Move(
                kind="rollback",
                name=name,
                origin=expected,
                target=target,
                previous=_replaced_by(lock, name, target),
                reason=reason,
                actor=actor,
                key=f"rollback:{uuid4().hex}",
            )
            if champion != expected:
                raise _refused(lock, move, champion)
            _begin(lock, move)
        return _state(name)


def settle(name: str) -> None:
    """Finish or give up an interrupted move, and correct the stage tags."""
    with _lock(name) as lock:
        _settle(name, lock)
        registry.restage(name)


def _begin(lock: Connection, move: Move) -> None:
    """Write the intention, then carry it out."""
    _record(lock, "intent", move, f"intent:{move.key}:{uuid4().hex}")
    _carry_out(lock, move)


def _carry_out(lock: Connection, move: Move) -> None:
    """Move the aliases and record that it is done. Every step can be repeated."""
    client = tracking.client()
    _still_held(lock)
    client.set_registered_model_alias(move.name, CHAMPION, str(move.target))
    _still_held(lock)
    if move.previous is not None and registry.version(move.name, move.previous) is not None:
        client.set_registered_model_alias(move.name, PREVIOUS, str(move.previous))
    else:
        client.delete_registered_model_alias(move.name, PREVIOUS)
    if registry.aliases(move.name).get(CHALLENGER) == move.target:
        client.delete_registered_model_alias(move.name, CHALLENGER)
    registry.restage(move.name)
    # Last: a rollback that is repeated after a kill must find its own intention still open.
    _record(lock, "moved", move, f"moved:{move.key}")
    log.info("%s: champion is version %d, was %s", move.name, move.target, move.origin)


def _settle(name: str, lock: Connection) -> Move | None:
    """Finish or give up an open intention; returns the move if it was carried out."""
    intent = ledger.interrupted(name, lock)
    if intent is None:
        return None
    move = Move.model_validate(intent.evidence)
    champion = tracking.alias_version(name, CHAMPION)
    if champion in (move.origin, move.target) and registry.version(name, move.target) is not None:
        log.warning("finishing an interrupted %s of %s to %d", move.kind, name, move.target)
        _carry_out(lock, move)
        return move
    log.warning("giving up an interrupted %s of %s to %d", move.kind, name, move.target)
    _record(lock, "undone", move, f"undone:{intent.key}", f"The champion is {_version(champion)}.")
    return None


def _record(
    lock: Connection, kind: ledger.Kind, move: Move, key: str, reason: str | None = None
) -> None:
    ledger.append(
        kind=kind,
        pipeline=move.name,
        actor=move.actor,
        from_version=move.origin,
        to_version=move.target,
        reason=reason or move.reason,
        evidence=move.model_dump(),
        key=key,
        connection=lock,
    )


def _refused(lock: Connection, move: Move, champion: int | None) -> ConflictError:
    """Record a move that came too late; returns its error."""
    why = f"The champion is {_version(champion)}; this was decided against {_version(move.origin)}."
    _record(lock, "refused", move, f"refused:{move.key}:{champion}", why)
    fix = "Train again." if move.kind == "promote" else "Look at the history, then roll back again."
    return ConflictError(
        f"The {move.kind} of {move.name} to version {move.target} was refused.", why=why, fix=fix
    )


def _target(name: str, to: int | None) -> int:
    """The version to go back to: it must exist, and no gate or build may have rejected it."""
    marks = registry.aliases(name)
    champion = marks.get(CHAMPION)
    if champion is None:
        raise UserError(f"{name} has no champion to roll back.")
    candidates = [
        number
        for number, entry in registry.versions(name).items()
        if number != champion and not registry.rejected(entry)
    ]
    target = to if to is not None else marks.get(PREVIOUS)
    if target in candidates:
        return target
    why = f"Versions to choose from: {', '.join(map(str, candidates)) or 'none'}."
    if target is None:
        raise UserError(
            f"{name} has no version with the alias 'previous': no earlier champion is recorded.",
            why=why,
            fix="--to V",
        )
    if target == champion:
        raise UserError(f"Version {target} of {name} is the champion already.", why=why)
    raise UserError(f"{name} cannot go back to version {target}.", why=why)


def _replaced_by(lock: Connection, name: str, target: int) -> int | None:
    """The champion that `target` replaced when it was last promoted."""
    for entry in ledger.moves(name, lock):
        if entry.to_version == target and entry.evidence["kind"] == "promote":
            return entry.from_version
    return None


def _state(name: str) -> dict[str, Any]:
    marks = registry.aliases(name)
    return {"champion": marks.get(CHAMPION), "previous": marks.get(PREVIOUS)}


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"


def _still_held(lock: Connection) -> None:
    """Fail if the lock is lost. MLflow has no compare-and-set, so check just before each write."""
    database.query(lock, "select 1")


@contextmanager
def _lock(name: str) -> Iterator[Connection]:
    try:
        with database.locked(f"promote/{name}") as lock:
            yield lock
    except database.LOST as err:
        raise UnavailableError(
            f"PostgreSQL went away while the champion of {name} was being moved.",
            why=str(err).strip(),
            fix="The next promote, rollback or deploy finishes the interrupted move.",
        ) from err
