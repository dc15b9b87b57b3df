"""The tables of docs/reference.md, made from the docstrings of the schema's fields."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import BaseModel

from tasks.base.settings import REPOSITORY
from tasks.pipeline import schema
from tasks.pipeline.distributions import ARGUMENTS, CHOICES, MEANINGS, Distribution
from tasks.pipeline.overrides import FIELDS, Overrides

FILE = REPOSITORY / "docs" / "reference.md"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Row = tuple[str, ...]
NOT_REQUIRED = {"name": "the file's name"}
"""Required by the schema, but not in a file: the default."""


def updated(text: str) -> str:
    """The text with each table between `<!-- table: NAME -->` and `<!-- end -->` made again."""
    headings = set(re.findall(r"^#+ (\w+)$", text, re.MULTILINE))

    def table(match: re.Match[str]) -> str:
        rows = _others().get(match[2]) or _keys(getattr(schema, match[2]), headings)
        head = rows[0], ("---",) * len(rows[0])
        lines = (f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in (*head, *rows[1:]))
        return match[1] + "".join(lines) + match[3]

    return _TABLE.sub(table, text)


def _keys(model: type[BaseModel], headings: set[str]) -> list[Row]:
    """The keys of a section; one that has a heading of its own is a link to it."""
    rows: list[Row] = [("key", "default", "meaning")]
    for name, field in model.model_fields.items():
        kind, meaning = field.annotation, field.description
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            meaning = kind.__doc__
            if name not in headings:
                inner = _keys(kind, headings)[1:]
                rows += [(key.replace("`", f"`{name}.", 1), *rest) for key, *rest in inner]
                continue
        meaning = _one_line(meaning)
        if name in headings:
            meaning = f"[{meaning.rstrip('.')}](#{name})"
        if name in NOT_REQUIRED:
            rows.append((f"`{name}`", NOT_REQUIRED[name], meaning))
        elif field.is_required():
            rows.append((f"`{name}` **•**", "", meaning))
        else:
            rows.append((f"`{name}`", _default(field.default), meaning))
    return rows


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see there"
    if value in ({}, ()):
        return "none"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _others() -> dict[str, list[Row]]:
    changes = {name: f"`{section}.{key}`" for name, (section, key) in FIELDS.items()}
    overrides = (
        (f"`{name}`", changes.get(name) or _one_line(field.description))
        for name, field in Overrides.model_fields.items()
    )
    return {
        "Expressions": [("expression", "gives", "in a grid"), *map(_expression, MEANINGS)],
        "Overrides": [("parameter", "changes"), *overrides],
    }


def _expression(name: str) -> Row:
    if name in CHOICES:
        option = "[P, A], [Q, B]" if name == "pchoice" else "A, B"
        return f"`{{{name}: [{option}, ...]}}`", MEANINGS[name], "yes"
    arguments = ARGUMENTS[name]
    finite = Distribution(name, (1, 2, 1)[: len(arguments)]).size
    return f"`{{{name}: [{', '.join(arguments)}]}}`", MEANINGS[name], "yes" if finite else ""


def _one_line(docstring: str | None) -> str:
    """A wrapped docstring as one line."""
    return " ".join((docstring or "").split())
