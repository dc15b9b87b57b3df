"""The names of the model families, so that files are checked without an ML library."""

from __future__ import annotations

from tasks.base.settings import REPOSITORY

FOLDER = REPOSITORY / "tasks" / "models" / "estimators"
"""One module for each family. Only the names are read here; `tasks.models` imports them."""


def names() -> list[str]:
    """The families' names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
