"""Mistakes in a file or in parameters, each with its place and its fix."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Sequence

from tasks.base.errors import UserError

Path = tuple[str | int, ...]
NOTHING = object()
"""The `got` of a problem with a missing value."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """A message: The 'field' field must `must`. Got `got` instead."""

    field: Path
    must: str
    got: object = NOTHING
    fix: str = ""
    line: int | None = None

    def __str__(self) -> str:
        subject = f"The '{dotted(self.field)}' field" if self.field else "The file"
        got = "" if self.got is NOTHING else f" Got {shown(self.got)} instead."
        return f"{subject} must {self.must}.{got}{' ' if self.fix else ''}{self.fix}"

    def below(self, place: Path) -> Problem:
        """The same problem, of a part that stands at `place` of a larger whole."""
        return dataclasses.replace(self, field=(*place, *self.field), line=None)


class ProblemsError(UserError):
    """All problems of one file or one set of parameters."""

    def __init__(self, where: str, problems: Sequence[Problem], *, fix: str = "") -> None:
        self.where, self.problems = where, tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{where} has {count}.", why="\n".join(self.lines()), fix=fix)

    def lines(self) -> list[str]:
        """One line for each problem, with file and line in the form that editors can open."""
        return [
            f"{self.where}:{problem.line}: {problem}" if problem.line else str(problem)
            for problem in self.problems
        ]


def dotted(field: Path) -> str:
    """A field's name: `search.points.0.alpha`."""
    return ".".join(map(str, field))


def shown(value: object) -> str:
    """A value as the file spells it, in one short line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def listed(names: Iterable[str]) -> str:
    """Names in quotes, separated by commas: `'a', 'b'`."""
    return ", ".join(repr(name) for name in names)


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the nearest known name, or one that starts so; otherwise nothing."""
    text, names = str(wrong), list(known)
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.6)
    if not near and len(text) >= 3:
        near = [name for name in names if name.startswith(text)]
    return f"Did you mean {near[0]!r}?" if near else ""
