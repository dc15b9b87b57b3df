"""The model families: one small module each, found by its file name.

A new family is a new file here that says `FAMILY = Family(...)`; nothing else has to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.pipeline.problems import did_you_mean, listed

if TYPE_CHECKING:
    from tasks.estimators.family import Family

_SHARED = "family"


def names() -> list[str]:
    """The families' names. Imports none of them."""
    return sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name != _SHARED)


def get(name: str) -> Family:
    """The family of this name.

    Raises:
        UserError: There is none.
    """
    known = names()
    if name not in known:
        raise UserError(
            f"The 'estimator' must be one of {listed(known)}. Got {name!r} instead.",
            fix=did_you_mean(name, known),
        )
    family: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return family
