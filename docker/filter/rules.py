"""Rules of which the policy is made.

A rule takes what it is called and its value; it returns what to send on, or raises Denied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Rule = Callable[[str, Any], Any]
Table = Mapping[str, Rule]


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """An answer to the client in place of the engine's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Denied(Refusal):
    """What was asked is not allowed."""

    def __init__(self, what: str, given: Any, allowed: str) -> None:
        shown = json.dumps(given)[:200]
        super().__init__(403, f"docker filter: {what}: {shown} is denied; allowed: {allowed}")


def one_of(*values: Any) -> Rule:
    """One of these JSON values; 1 is not true."""

    def rule(what: str, given: Any) -> Any:
        if not any(type(given) is type(value) and given == value for value in values):
            raise Denied(what, given, " or ".join(map(json.dumps, values)))
        return given

    return rule


def whole(least: int, most: float) -> Rule:
    """An integer within bounds, both included."""

    def rule(what: str, given: Any) -> int:
        if type(given) is not int or not least <= given <= most:
            raise Denied(what, given, f"a whole number from {least} to {most:.0f}")
        return given

    return rule


def text(pattern: str, meaning: str = "") -> Rule:
    """A string that matches as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def rule(what: str, given: Any) -> str:
        if not isinstance(given, str) or not compiled.fullmatch(given):
            raise Denied(what, given, meaning or pattern)
        return given

    return rule


def flag(what: str, given: Any) -> str:
    """A boolean option of a query, as the engine reads it."""
    boolean = one_of("1", "true", "0", "false", "")
    return str(int(boolean(what, str(given).lower()) in {"1", "true"}))


def each(item: Rule) -> Rule:
    """A list, each of its items by the rule."""

    def rule(what: str, given: Any) -> list[Any]:
        if not isinstance(given, list):
            raise Denied(what, given, "a list")
        return [item(what, value) for value in given]

    return rule


def several(item: Rule) -> Rule:
    """An option that may be there more than once; returns a list."""
    return lambda what, given: each(item)(what, given if isinstance(given, list) else [given])


def pairs(table: Table, must: Sequence[str] = ()) -> Rule:
    """An object whose keys each match a pattern of the table, of which the first counts."""

    def rule(what: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict) or not given.keys() >= set(must):
            raise Denied(what, given, f"an object with {', '.join(must) or 'any of its keys'}")
        checked = {}
        for key, value in given.items():
            found = next((table[one] for one in table if re.fullmatch(one, key, re.ASCII)), None)
            if found is None:
                raise Denied(f"{what} key", key, " or ".join(table))
            checked[key] = found(f"{what} {key}", value)
        return checked

    return rule


UNSET = (None, "", 0, False)
UNSET_OPTION = ("", "0", "False", "false", "null", "[]", "{}")


def fields(
    must: Table | None = None,
    may: Table | None = None,
    always: Mapping[str, Any] | None = None,
    unset: Sequence[Any] = UNSET,
) -> Rule:
    """An object of known fields; others may be there only when unset, and are not passed on.

    An empty list counts as set: `MaskedPaths: []` unmasks everything.
    """
    needed, known = must or {}, {**(must or {}), **(may or {})}

    def rule(what: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise Denied(what or "body", given, "an object")
        called = {key: f"{what}.{key}" if what else key for key in (*given, *known)}
        for key, value in given.items():
            if key not in known and value not in unset:
                raise Denied(called[key], value, "not set")
        there = [key for key in known if key in needed or given.get(key) is not None]
        return {key: known[key](called[key], given.get(key)) for key in there} | dict(always or {})

    return rule


def within(rule: Rule) -> Rule:
    """A JSON text, by the rule for its content."""
    return lambda what, given: json.dumps(rule(what, parse_json(given)))


def parse_json(source: str | bytes) -> Any:
    """JSON without what parsers read differently.

    Go's decoder matches fields whatever their case, and of two takes the last.
    """

    def unique(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key.casefold() for key, _ in found}) < len(found):
            raise Denied("JSON keys", sorted(key for key, _ in found), "each once, in one case")
        return dict(found)

    def number(given: str) -> Any:
        raise Denied("JSON", given, "finite numbers")

    try:
        return json.loads(source, object_pairs_hook=unique, parse_constant=number)
    except (ValueError, RecursionError) as err:
        raise Denied("JSON", str(err), "well-formed JSON") from err
