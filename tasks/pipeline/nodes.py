"""The parts of a search space: the points that each contains, and the way back from a point.

A point has two forms: `params`, the nested mapping that a model is built from, and `vals`, which
hyperopt keeps: label -> value, where a choice's value is the index of its option. Labels of options
that were not chosen are absent.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from tasks.base.errors import UserError
from tasks.base.problems import NOTHING, Path, Problem, did_you_mean, listed
from tasks.pipeline.distributions import Distribution

Scalar = bool | int | float | str | None
Vals = dict[str, int | float]
ESTIMATOR = "estimator"


class NoMatch(UserError):  # noqa: N818 - not always an error
    """The space does not contain these parameters."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


class Node(ABC):
    """A part of a space."""

    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """All labels in this part, of every option."""

    @abstractmethod
    def evaluate(self, vals: Mapping[str, Any]) -> Any:
        """The parameters of these values."""

    @abstractmethod
    def match(self, params: Any, path: Path) -> Vals:
        """The values of these parameters; otherwise `NoMatch`."""

    @abstractmethod
    def size(self) -> int | None:
        """The number of points; None: infinite."""

    @abstractmethod
    def at(self, index: int) -> Vals:
        """Point number `index` of a finite part; what comes last in the file varies first."""

    @abstractmethod
    def expression(self, hp: Any) -> Any:
        """The same part as hyperopt's expression."""


@dataclass(frozen=True)
class Literal(Node):
    """A constant."""

    value: Scalar

    @override
    def labels(self) -> tuple[str, ...]:
        return ()

    @override
    def evaluate(self, vals: Mapping[str, Any]) -> Scalar:
        return self.value

    @override
    def match(self, params: Any, path: Path) -> Vals:
        if not same(params, self.value):
            raise NoMatch(Problem(path, f"be {self.value!r}", params))
        return {}

    @override
    def size(self) -> int:
        return 1

    @override
    def at(self, index: int) -> Vals:
        return {}

    @override
    def expression(self, hp: Any) -> Scalar:
        return self.value


@dataclass(frozen=True)
class Parameter(Node):
    """One value from a distribution."""

    label: str
    distribution: Distribution

    @override
    def labels(self) -> tuple[str, ...]:
        return (self.label,)

    @override
    def evaluate(self, vals: Mapping[str, Any]) -> int | float:
        return self.distribution.value(vals[self.label])

    @override
    def match(self, params: Any, path: Path) -> Vals:
        is_number = isinstance(params, int | float) and not isinstance(params, bool)
        if not is_number or not self.distribution.fits(params):
            raise NoMatch(Problem(path, f"be {self.distribution}", params))
        return {self.label: self.distribution.value(params)}

    @override
    def size(self) -> int | None:
        return self.distribution.size

    @override
    def at(self, index: int) -> Vals:
        return {self.label: self.distribution.at(index)}

    @override
    def expression(self, hp: Any) -> Any:
        return getattr(hp, self.distribution.name)(self.label, *self.distribution.args)


@dataclass(frozen=True)
class Choice(Node):
    """One of several options, equally likely or with the probabilities `weights`."""

    label: str
    options: tuple[Node, ...]
    weights: tuple[float, ...] | None = None

    @override
    def labels(self) -> tuple[str, ...]:
        return (self.label, *_labels(self.options))

    @override
    def evaluate(self, vals: Mapping[str, Any]) -> Any:
        return self.options[int(vals[self.label])].evaluate(vals)

    @override
    def match(self, params: Any, path: Path) -> Vals:
        failed: list[tuple[Node, Problem]] = []
        for i, option in enumerate(self.options):
            try:
                return {self.label: i, **option.match(params, path)}
            except NoMatch as error:
                failed.append((option, error.problem))
        raise NoMatch(self._nearest(failed, params, path))

    def _nearest(self, failed: list[tuple[Node, Problem]], params: Any, path: Path) -> Problem:
        """Why the intended option did not fit: the option of the same family, if it exists."""
        if all(isinstance(option, Literal) for option in self.options):
            return Problem(path, f"be one of {', '.join(p.must[3:] for _, p in failed)}", params)
        wanted = params.get(ESTIMATOR) if isinstance(params, Mapping) else None
        known = families(self)
        if known and not (isinstance(wanted, str) and wanted in known):
            got = NOTHING if wanted is None else wanted
            fix = did_you_mean(wanted, known)
            return Problem((*path, ESTIMATOR), f"be one of {listed(sorted(known))}", got, fix=fix)
        meant = [p for option, p in failed if not known or wanted in families(option)]
        inner = [p for p in meant if p.field != path]
        if len(inner) == 1:
            return inner[0]
        if not inner:
            return Problem(path, " or ".join(dict.fromkeys(p.must for p in meant)), params)
        reasons = "; ".join(dict.fromkeys(str(problem) for problem in inner))
        return Problem(path, "fit one of the options", params, fix=f"({reasons})")

    @override
    def size(self) -> int | None:
        sizes = [option.size() for option in self.options]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @override
    def at(self, index: int) -> Vals:
        for i, option in enumerate(self.options):
            size = option.size() or 0
            if index < size:
                return {self.label: i, **option.at(index)}
            index -= size
        raise IndexError(index)

    @override
    def expression(self, hp: Any) -> Any:
        options = [option.expression(hp) for option in self.options]
        if self.weights is None:
            return hp.choice(self.label, options)
        return hp.pchoice(self.label, list(zip(self.weights, options, strict=True)))


@dataclass(frozen=True)
class Group(Node):
    """A mapping, or, if `keys` is None, a list."""

    keys: tuple[str, ...] | None
    items: tuple[Node, ...]

    @override
    def labels(self) -> tuple[str, ...]:
        return _labels(self.items)

    @override
    def evaluate(self, vals: Mapping[str, Any]) -> Any:
        values = tuple(item.evaluate(vals) for item in self.items)
        return values if self.keys is None else dict(zip(self.keys, values, strict=True))

    @override
    def match(self, params: Any, path: Path) -> Vals:
        self._check_shape(params, path)
        names: Iterable[str | int] = range(len(self.items)) if self.keys is None else self.keys
        vals: Vals = {}
        for name, item in zip(names, self.items, strict=True):
            vals |= item.match(params[name], (*path, name))
        return vals

    def _check_shape(self, params: Any, path: Path) -> None:
        if self.keys is None:
            if not isinstance(params, list | tuple) or len(params) != len(self.items):
                raise NoMatch(Problem(path, f"be a list of {len(self.items)}", params))
            return
        if not isinstance(params, Mapping):
            raise NoMatch(Problem(path, "be a mapping", params))
        for key in params:
            if key not in self.keys:
                must = f"be left out: the space has only {listed(self.keys)}"
                raise NoMatch(
                    Problem((*path, key), must, params[key], did_you_mean(key, self.keys))
                )
        for key in self.keys:
            if key not in params:
                raise NoMatch(Problem((*path, key), "be given"))

    @override
    def size(self) -> int | None:
        sizes = [item.size() for item in self.items]
        return None if None in sizes else math.prod(size or 0 for size in sizes)

    @override
    def at(self, index: int) -> Vals:
        vals: Vals = {}
        for item in reversed(self.items):
            index, own = divmod(index, item.size() or 1)
            vals = item.at(own) | vals
        return vals

    @override
    def expression(self, hp: Any) -> Any:
        values = [item.expression(hp) for item in self.items]
        return values if self.keys is None else dict(zip(self.keys, values, strict=True))


def options(node: Node) -> Iterator[Group]:
    """The mappings with an `estimator`, one or more for each family, in the file's order."""
    if isinstance(node, Choice):
        for option in node.options:
            yield from options(option)
    elif isinstance(node, Group) and node.keys and ESTIMATOR in node.keys:
        yield node


def family(option: Group) -> str:
    """The family of an option."""
    return str(option.items[(option.keys or ()).index(ESTIMATOR)].evaluate({}))


def families(node: Node) -> set[str]:
    """The model families of the space."""
    return {family(option) for option in options(node)}


def same(left: Any, right: Any) -> bool:
    """Equality that distinguishes `true` from `1`."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _labels(nodes: tuple[Node, ...]) -> tuple[str, ...]:
    return tuple(label for node in nodes for label in node.labels())
