"""Schema changes: columns of a source that differ from the pipeline file, refused or accepted."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tasks.base.errors import UserError
from tasks.data.checking import TYPE_WORDS
from tasks.pipeline.schema import Data

log = logging.getLogger(__name__)


@dataclass
class SchemaChanges:
    """The schema changes of all sources, collected for one message."""

    data: Data
    required: Collection[str | None]
    """Columns that may not be empty even if the file says nullable."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """The refused changes of each table."""

    def compare_names(self, table: str, names: Sequence[str]) -> None:
        """Compare the names of a table's columns with the pipeline file."""
        columns, accept = self.data.columns, self.data.drift
        for name in columns:
            if name not in names:
                unknown = [other for other in names if other not in columns]
                near = difflib.get_close_matches(name, unknown, 1)
                hint = f" (renamed to {near[0]!r}?)" if near else ""
                change = f"column {name!r} is missing{hint}"
                self._empty(table, name, change, accepted=accept.lost == "fill")
        for name in dict.fromkeys(names):
            if names.count(name) > 1:
                self._refuse(table, f"column {name!r} occurs twice")
            elif name in columns:
                continue
            elif accept.new == "ignore":
                log.warning("%s: column %r is unknown and left out.", table, name)
            else:
                self._refuse(table, f"column {name!r} is unknown")

    def change_type(self, table: str, name: str, count: int, example: str) -> None:
        """Report a column all of whose `count` values have the wrong type."""
        wanted = TYPE_WORDS[self.data.columns[name].type]
        change = (
            f"column {name!r} has another type: none of its {count} values is {wanted}, "
            f"e.g. {example}"
        )
        self._empty(table, name, change, accepted=self.data.drift.type == "fill")

    def check(self) -> None:
        """Raise a `UserError` with every refused change."""
        if not self.problems:
            return
        tables = [*self.problems]
        single = len(tables) == 1
        subject = f"{tables[0]} does" if single else "The sources do"
        lines = [
            ("" if single else f"{table}: ") + "; ".join(changes) + "."
            for table, changes in self.problems.items()
        ]
        raise UserError(
            f"{subject} not have the columns of the pipeline file.",
            why="\n".join(lines),
            fix="Correct the source, its read options, or data.columns in the pipeline file; "
            "or accept the schema change under data.drift.",
        )

    def _empty(self, table: str, name: str, change: str, *, accepted: bool) -> None:
        """Accept a change that leaves a column empty, if both the file and the column allow it."""
        if not accepted:
            self._refuse(table, change)
        elif not self.data.columns[name].nullable or name in self.required:
            self._refuse(table, f"{change}, and it may not be empty")
        else:
            log.warning("%s: %s; it is treated as empty.", table, change)

    def _refuse(self, table: str, change: str) -> None:
        self.problems.setdefault(table, []).append(change)
