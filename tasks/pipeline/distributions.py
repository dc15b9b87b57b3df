"""Hyperopt's distributions without hyperopt: their arguments and their values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.base.problems import Path, Problem

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"),
    "quniform": ("low", "high", "q"),
    "uniformint": ("low", "high"),
    "loguniform": ("low", "high"),
    "qloguniform": ("low", "high", "q"),
    "normal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "lognormal": ("mu", "sigma"),
    "qlognormal": ("mu", "sigma", "q"),
    "randint": ("low", "high"),
}
MEANINGS = {
    "choice": "One of the options, each equally likely.",
    "pchoice": "One of the options, with probabilities that add up to 1.",
    "uniform": "Any number from low to high.",
    "quniform": "Multiples of q from low to high.",
    "uniformint": "Integers from low to high, both included.",
    "loguniform": "Numbers whose logarithm is uniform. The bounds are logarithms: log(0.001).",
    "qloguniform": "As loguniform, rounded to multiples of q.",
    "normal": "Numbers around mu, without limits.",
    "qnormal": "As normal, rounded to multiples of q.",
    "lognormal": "Numbers whose logarithm is normal. mu is a logarithm.",
    "qlognormal": "As lognormal, rounded to multiples of q.",
    "randint": "Integers from low to high - 1 without an order, e.g. a seed. [high] starts at 0.",
}
"""What each function gives."""
CHOICES = ("choice", "pchoice")
FUNCTIONS = (*CHOICES, *ARGUMENTS)
WHOLE = frozenset({"uniformint", "randint"})
"""The functions that give integers."""

LOG = re.compile(r"log\((.+)\)")
LARGEST_LOG = 46.0
"""exp(46) is 1e20: the logarithm of a larger bound was most likely forgotten."""
MOST_STEPS = 1e15
"""With about ten times as many, doubles have no digits left for a step."""


@dataclass(frozen=True)
class Distribution:
    """A distribution with valid arguments, as `read` returns it."""

    name: str
    args: tuple[float, ...]

    @property
    def step(self) -> float | None:
        """The values are multiples of this; None: any number."""
        if self.name in WHOLE:
            return 1
        return self.args[-1] if ARGUMENTS[self.name][-1] == "q" else None

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value, as hyperopt rounds them."""
        if self.name == "randint":
            return (0 if len(self.args) == 1 else self.args[0]), self.args[-1] - 1
        low, high = self.args[0], self.args[1]
        if "log" in self.name:
            low, high = math.exp(low), math.exp(high)
        if "normal" in self.name:
            low, high = (0.0 if "log" in self.name else -math.inf), math.inf
        return self._rounded(low), self._rounded(high)

    def _rounded(self, value: float) -> float:
        if self.step is None or math.isinf(value):
            return value
        return round(value / self.step) * self.step

    @property
    def size(self) -> int | None:
        """The number of values; None: infinite."""
        low, high = self.bounds
        if self.step is None or math.isinf(low) or math.isinf(high):
            return None
        return round((high - low) / self.step) + 1

    def value(self, raw: float) -> int | float:
        """Hyperopt's value as the parameter that it stands for."""
        return int(raw) if self.name in WHOLE else float(raw)

    def at(self, index: int) -> int | float:
        """The value number `index` of a finite distribution, smallest first."""
        step = self.step or 1
        return self.value((round(self.bounds[0] / step) + index) * step)

    def fits(self, value: float) -> bool:
        """Whether the distribution can give this value."""
        low, high = self.bounds
        try:
            value = float(value)
        except OverflowError:  # an integer too large for a double
            return False
        slack = 1e-9 * max(1.0, abs(value))
        if not math.isfinite(value) or not low - slack <= value <= high + slack:
            return False
        if self.name == "lognormal" and value <= 0:
            return False
        return self.step is None or abs(value / self.step - round(value / self.step)) < 1e-6

    def __str__(self) -> str:
        low, high = self.bounds
        kind = "an integer" if self.name in WHOLE else "a number"
        if self.step not in {None, 1}:
            kind = f"a multiple of {self.step:g}"
        if math.isinf(low):
            return kind
        return f"{kind} " + (f"above {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}")


def read(name: str, raw: object, path: Path) -> Distribution | list[Problem]:
    """The distribution, or every problem of its arguments."""
    wanted = ARGUMENTS[name]
    if not isinstance(raw, list | tuple):
        raw = [raw] if name == "randint" else raw
    counts = {1, 2} if name == "randint" else {len(wanted)}
    if not isinstance(raw, list | tuple) or len(raw) not in counts:
        form = f"[{', '.join(wanted)}]" + (" or [high]" if name == "randint" else "")
        return [Problem(path, f"be {form}", raw)]
    if len(raw) < len(wanted):
        wanted = wanted[1:]
    args = [number(value) for value in raw]
    problems = [
        Problem((*path, i), f"be a number or log(NUMBER) with NUMBER > 0 ({wanted[i]})", raw[i])
        for i, arg in enumerate(args)
        if arg is None
    ]
    if problems:
        return problems
    numbers = [arg for arg in args if arg is not None]
    if name in WHOLE:
        numbers = [int(arg) if arg == int(arg) else arg for arg in numbers]
    by_name = dict(zip(wanted, numbers, strict=True))
    problems = [
        *_each_limit(name, by_name, list(raw), path),
        *_order(by_name, list(raw), path),
        *_forgotten_log(name, by_name, list(raw), path),
    ]
    return problems or Distribution(name, tuple(numbers))


def number(value: object) -> float | None:
    """A bound: a finite number (also as text, such as `1e-3`) or the text `log(NUMBER)`."""
    if isinstance(value, str) and (inner := LOG.fullmatch(value.strip())):
        inside = number(inner[1])
        return math.log(inside) if inside is not None and inside > 0 else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(result):
        return None
    return value if isinstance(value, int) else result


def _each_limit(
    name: str, args: dict[str, float], raw: list[object], path: Path
) -> Iterator[Problem]:
    for i, (argument, value) in enumerate(args.items()):
        place = (*path, i)
        if name in WHOLE and value != int(value):
            yield Problem(place, "be an integer", raw[i])
        elif argument in {"sigma", "q"} and value <= 0:
            yield Problem(place, f"be greater than 0 ({argument})", raw[i])
        elif argument == "q" and _reach(name, args) / value > MOST_STEPS:
            must = f"divide the range into at most {MOST_STEPS:g} steps (q)"
            yield Problem(place, must, raw[i])
        elif "log" in name and argument != "q" and value > LARGEST_LOG:
            must = f"be a logarithm, at most {LARGEST_LOG:g}"
            yield Problem(place, must, raw[i], fix=f"Write log({raw[i]}).")


def _reach(name: str, args: dict[str, float]) -> float:
    """Approximate size of the largest values."""
    reach = max(abs(value) for argument, value in args.items() if argument != "q")
    return math.exp(min(reach, LARGEST_LOG)) if "log" in name else reach


def _order(args: dict[str, float], raw: list[object], path: Path) -> Iterator[Problem]:
    if "high" in args and args.get("low", 0) >= args["high"]:
        yield Problem(path, "have low < high" if "low" in args else "be at least 1", raw)


def _forgotten_log(
    name: str, args: dict[str, float], raw: list[object], path: Path
) -> Iterator[Problem]:
    """Bounds such as [0.01, 0.3] would give numbers from 1.01 to 1.35, which nobody wants."""
    written = any(isinstance(value, str) and LOG.fullmatch(value.strip()) for value in raw)
    if (
        name in {"loguniform", "qloguniform"}
        and not written
        and 0 < args["low"] < args["high"] <= 1
    ):
        low, high, *step = raw
        written_out = ", ".join([f"log({low})", f"log({high})", *map(str, step)])
        other = ", ".join(f"log({math.exp(args[bound]):.3g})" for bound in ("low", "high"))
        fix = f"Write [{written_out}]; if these are the logarithms, [{other}]."
        yield Problem(path, "have logarithms as its bounds", raw, fix=fix)
