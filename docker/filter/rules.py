"""Rules that the policy is made of.

A rule takes a value and the name to report it by. It returns what to pass on, or raises Denied.
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
    """The request is not allowed."""

    def __init__(self, what: str, value: Any, allowed: str) -> None:
        shown = json.dumps(value)[:200]
        super().__init__(403, f"docker filter: {what}: {shown} is denied; allowed: {allowed}")


def one_of(*values: Any) -> Rule:
    """One of these JSON values; 1 is not true."""

    def rule(what: str, given: Any) -> Any:
        if not any(type(given) is type(value) and given == value for value in values):
            raise Denied(what, given, " or ".join(map(json.dumps, values)))
        return given

    return rule


def integer(least: int, most: float) -> Rule:
    """An integer within bounds, both included."""

    def rule(what: str, given: Any) -> int:
        if type(given) is not int or not least <= given <= most:
            raise Denied(what, given, f"an integer from {least} to {most:.0f}")
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
    """A list whose items each follow the rule."""

    def rule(what: str, given: Any) -> list[Any]:
        if not isinstance(given, list):
            raise Denied(what, given, "a list")
        return [item(what, value) for value in given]

    return rule


def repeatable(item: Rule) -> Rule:
    """An option that may be given more than once; returns a list."""
    return lambda what, given: each(item)(what, given if isinstance(given, list) else [given])


def mapping(table: Table, must: Sequence[str] = ()) -> Rule:
    """An object whose keys each match a pattern of the table; the first match decides."""

    def rule(what: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict) or not given.keys() >= set(must):
            raise Denied(what, given, f"an object with {', '.join(must) or 'any of its keys'}")
        checked = {}
        for key, value in given.items():
            matches = (table[pattern] for pattern in table if re.fullmatch(pattern, key, re.ASCII))
            value_rule = next(matches, None)
            if value_rule is None:
                raise Denied(f"{what} key", key, " or ".join(table))
            checked[key] = value_rule(f"{what} {key}", value)
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
    """An object of known fields; other fields must be unset and are not passed on.

    An empty list counts as set: `MaskedPaths: []` unmasks everything.
    """
    required, known = must or {}, {**(must or {}), **(may or {})}

    def rule(what: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise Denied(what or "body", given, "an object")
        path = {key: f"{what}.{key}" if what else key for key in (*given, *known)}
        for key, value in given.items():
            if key not in known and value not in unset:
                raise Denied(path[key], value, "not set")
        checked = [key for key in known if key in required or given.get(key) is not None]
        return {key: known[key](path[key], given.get(key)) for key in checked} | dict(always or {})

    return rule


def json_text(rule: Rule) -> Rule:
    """A JSON text whose content follows the rule."""
    return lambda what, given: json.dumps(rule(what, parse_json(given)))


def parse_json(source: str | bytes) -> Any:
    """Parse JSON; deny what parsers read differently.

    Go's decoder ignores the case of a key, and takes the last of two equal keys.
    """

    def unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key.casefold() for key, _ in items}) < len(items):
            raise Denied("JSON keys", sorted(key for key, _ in items), "each once, in one case")
        return dict(items)

    def reject(constant: str) -> Any:
        raise Denied("JSON", constant, "finite numbers")

    try:
        return json.loads(source, object_pairs_hook=unique, parse_constant=reject)
    except (ValueError, RecursionError) as err:
        raise Denied("JSON", str(err), "well-formed JSON") from err
