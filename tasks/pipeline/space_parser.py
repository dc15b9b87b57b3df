"""From the expressions of a pipeline file to the tree of a search space."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tasks.base.problems import NOTHING, Path, Problem, ProblemsError, did_you_mean, listed
from tasks.pipeline.distributions import CHOICES, FUNCTIONS, Distribution, number, read
from tasks.pipeline.nodes import ESTIMATOR, Choice, Group, Literal, Node, Parameter, same

KEY = re.compile(r"[A-Za-z_]\w*")
NONE = Literal(None)


def parse(space: Mapping[str, Any], known: Collection[str] | None = None) -> Node:
    """The tree of a space, whose families must be `known`, if that is given.

    Raises:
        ProblemsError: With everything that is wrong.
    """
    parser = _Parser(known)
    node = parser.option(space, (), ESTIMATOR)
    if parser.problems:
        raise ProblemsError("The search space", parser.problems)
    return node


class _Parser:
    """Continues after a problem to find all of them; its result is then useless."""

    def __init__(self, known: Collection[str] | None) -> None:
        self.known = known
        self.problems: list[Problem] = []
        self._prefixes: set[str] = set()

    def fail(self, path: Path, must: str, got: object = NOTHING, fix: str = "") -> Node:
        self.problems.append(Problem(path, must, got, fix))
        return NONE

    def option(self, raw: object, path: Path, label: str) -> Node:
        """One family's mapping, or a choice of such options."""
        function = self._function(raw, path)
        if function in CHOICES:
            return self._choice(raw, function, path, label, self.option)
        if function is not None or not isinstance(raw, Mapping):
            must = f"be a mapping with '{ESTIMATOR}', or a choice of such mappings"
            return self.fail(path, must, raw)
        slips = (did_you_mean(key, [ESTIMATOR]) for key in raw if ESTIMATOR not in raw)
        slip = next(filter(None, slips), "")
        prefix = self._prefix(raw.get(ESTIMATOR, NOTHING), (*path, ESTIMATOR), slip)
        return self._mapping(raw, path, prefix)

    def _prefix(self, name: object, path: Path, slip: str = "") -> str:
        """The prefix of this option's labels: its family, numbered if it occurs again."""
        known = "" if self.known is None else f", one of {listed(sorted(self.known))}"
        if not isinstance(name, str) or (self.known is not None and name not in self.known):
            fix = slip or did_you_mean(name, self.known or ())
            self.fail(path, f"be the name of a model family{known}", name, fix)
        prefix, count = str(name), 1
        while prefix in self._prefixes:
            count += 1
            prefix = f"{name}_{count}"
        self._prefixes.add(prefix)
        return prefix

    def value(self, raw: object, path: Path, label: str) -> Node:
        """A parameter's value: an expression, a constant, a list or a mapping."""
        function = self._function(raw, path)
        if function in CHOICES:
            return self._choice(raw, function, path, label, self.value)
        if function is not None and isinstance(raw, Mapping):
            return self._parameter(function, raw[function], (*path, function), label)
        if isinstance(raw, Mapping):
            return self._mapping(raw, path, label)
        if isinstance(raw, list | tuple):
            items = [self.value(v, (*path, i), f"{label}.{i}") for i, v in enumerate(raw)]
            return Group(None, tuple(items))
        return self._literal(raw, path)

    def _parameter(self, function: str, raw: object, path: Path, label: str) -> Node:
        made = read(function, raw, path)
        if isinstance(made, Distribution):
            return Parameter(label, made)
        self.problems += made
        return NONE

    def _literal(self, raw: object, path: Path) -> Node:
        if isinstance(raw, float) and not math.isfinite(raw):
            return self.fail(path, "be finite", raw)
        if raw is None or isinstance(raw, bool | int | float | str):
            return Literal(raw)
        return self.fail(path, "be a number, text, true, false, null, a list or a mapping", raw)

    def _mapping(self, raw: Mapping[Any, Any], path: Path, label: str) -> Node:
        for key in raw:
            if not isinstance(key, str) or not KEY.fullmatch(key):
                self.fail((*path, key), "be named with letters, digits and _", key)
        items = [self.value(v, (*path, key), f"{label}.{key}") for key, v in raw.items()]
        return Group(tuple(raw), tuple(items))

    def _function(self, raw: object, path: Path) -> str | None:
        """The name of the function if the value is an expression, `{function: arguments}`."""
        if not isinstance(raw, Mapping):
            return None
        function = next((key for key in raw if key in FUNCTIONS), None)
        if function is not None and len(raw) > 1:
            place = (*path, function)
            self.fail(place, "be the only key of its mapping", list(raw), "Move the other keys.")
            return None
        if function is None and len(raw) == 1:
            ((key, value),) = raw.items()
            if isinstance(value, list) and (fix := did_you_mean(key, FUNCTIONS)):
                self.fail(path, f"be one of hyperopt's functions {listed(FUNCTIONS)}", key, fix)
        return function

    def _choice(
        self,
        raw: Any,
        function: str | None,
        path: Path,
        label: str,
        read_option: Callable[[object, Path, str], Node],
    ) -> Node:
        path = (*path, str(function))
        listing = raw[function]
        if not isinstance(listing, list | tuple) or not listing:
            return self.fail(path, "be a list of options", listing)
        weights = None
        places: list[tuple[Path, object]] = [((*path, i), v) for i, v in enumerate(listing)]
        if function == "pchoice":
            weights = self._weights(listing, path)
            if weights is None:
                return NONE
            places = [((*path, i, 1), pair[1]) for i, pair in enumerate(listing)]
        options = [
            read_option(value, place, f"{label}.{i}") for i, (place, value) in enumerate(places)
        ]
        self._check_distinct(options, places)
        return Choice(label, tuple(options), weights)

    def _weights(self, listing: Sequence[Any], path: Path) -> tuple[float, ...] | None:
        weights = []
        for i, pair in enumerate(listing):
            weight = number(pair[0]) if isinstance(pair, list | tuple) and len(pair) == 2 else None
            if weight is None or not 0 < weight <= 1:
                self.fail((*path, i), "be [PROBABILITY, OPTION] with 0 < PROBABILITY <= 1", pair)
            else:
                weights.append(weight)
        if len(weights) < len(listing):
            return None
        if abs(sum(weights) - 1) > 1e-6:
            self.fail(path, "have probabilities that add up to 1", weights)
        return tuple(weights)

    def _check_distinct(self, options: list[Node], places: list[tuple[Path, object]]) -> None:
        """Equal constants would make it unclear which option a point has chosen."""
        seen: list[object] = []
        for option, (path, raw) in zip(options, places, strict=True):
            if option is NONE or option.labels():
                continue
            value = option.evaluate({})
            if any(same(value, other) for other in seen):
                self.fail(path, "differ from the options before it", raw)
            seen.append(value)
