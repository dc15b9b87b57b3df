"""Schema drift: columns at a source that are others than the file's, refused or accepted."""

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
class Report:
    """What is wrong with the columns of all sources, collected to be told at once."""

    data: Data
    required: Collection[str | None]
    """Columns that may not be without values even where the file says nullable."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """Where -> what."""

    def names(self, where: str, found: Sequence[str]) -> None:
        """Compare the names of a table's columns with the file's."""
        columns, drift = self.data.columns, self.data.drift
        for name in columns:
            if name not in found:
                near = difflib.get_close_matches(name, [c for c in found if c not in columns], 1)
                hint = f" (is it {near[0]!r}?)" if near else ""
                what = f"column {name!r} is missing{hint}"
                self._tell(where, what, name, accepted=drift.lost == "fill")
        for name in dict.fromkeys(found):
            if found.count(name) > 1:
                self._refuse(where, f"column {name!r} is there twice")
            elif name in columns:
                continue
            elif drift.new == "ignore":
                log.warning("%s: column %r is unknown and left out.", where, name)
            else:
                self._refuse(where, f"column {name!r} is unknown")

    def changed(self, where: str, name: str, count: int, example: str) -> None:
        """A column of which every value, `count` of them, has the wrong type."""
        must = TYPE_WORDS[self.data.columns[name].type]
        what = f"column {name!r} has another type: none of its {count} values is {must}"
        accepted = self.data.drift.type == "fill"
        self._tell(where, f"{what}, e.g. {example}", name, accepted=accepted)

    def check(self) -> None:
        """Raise a `UserError` with all that was found."""
        if not self.problems:
            return
        one = len(self.problems) == 1
        what = f"{next(iter(self.problems))} does" if one else "The sources do"
        lines = [
            ("" if one else f"{where}: ") + "; ".join(problems) + "."
            for where, problems in self.problems.items()
        ]
        raise UserError(
            f"{what} not have the columns of the pipeline.",
            why="\n".join(lines),
            fix="Correct the source, its read options, or data.columns in the pipeline file; "
            "or accept it under data.drift.",
        )

    def _tell(self, where: str, what: str, name: str, *, accepted: bool) -> None:
        """Accept what leaves the column empty, if the file does and the column may be."""
        if not accepted:
            self._refuse(where, what)
        elif not self.data.columns[name].nullable or name in self.required:
            self._refuse(where, f"{what}, and it may not be empty")
        else:
            log.warning("%s: %s; it is taken as empty.", where, what)

    def _refuse(self, where: str, what: str) -> None:
        self.problems.setdefault(where, []).append(what)
