"""The model families: one small module each, named after its file.

A new family is a new file here with `FAMILY = Family(...)`; no other file has to change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tasks.base.errors import UserError
from tasks.base.problems import did_you_mean, listed
from tasks.pipeline import families

if TYPE_CHECKING:
    from tasks.models.family import Family


def get(name: str) -> Family:
    """The family of this name.

    Raises:
        UserError: There is no such family.
    """
    known = families.names()
    if name not in known:
        raise UserError(
            f"The 'estimator' must be one of {listed(known)}. Got {name!r} instead.",
            fix=did_you_mean(name, known),
        )
    family: Family = importlib.import_module(f"{__name__}.{name}").FAMILY
    return family
