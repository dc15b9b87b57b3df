"""Promote: a version that was built and tested becomes champion; the ledger records it."""

from __future__ import annotations

from typing import Any

from tasks.base.errors import UserError
from tasks.base.refs import BuildRef
from tasks.records import champion
from tasks.records.champion import Move


def promote(build: BuildRef, actor: str) -> dict[str, Any]:
    """Make the version champion, and the current champion `previous`.

    Raises:
        UserError: The gate did not pass the version.
        ConflictError: The gate compared the version with another champion.
    """
    if not build.promote:
        raise UserError(
            f"The gate did not pass {build.name} version {build.version}.", why=build.reason
        )
    move = Move(
        kind="promote",
        name=build.name,
        origin=build.champion,
        target=build.version,
        previous=build.champion,
        reason=build.reason,
        actor=actor,
        key=f"promote:{build.run_id}:{build.version}",
    )
    return champion.advance(move)
