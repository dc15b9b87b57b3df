"""Trials grouped by family, and their parameters as columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.pipeline import space
from tasks.pipeline.nodes import Choice, Group, Parameter
from tasks.records.trials.table import Trial, shown

ABSENT = object()
"""The value of a parameter that a trial's branch of the space does not have."""


@dataclass(frozen=True)
class Column:
    """A parameter over trials: its values in their order, `ABSENT` where a trial has none."""

    name: str
    log: bool
    values: tuple[Any, ...]

    @property
    def texts(self) -> list[str]:
        """The values that are not numbers, as text; sorted."""
        return sorted({cell(value) for value in self.values if not is_number(value)})

    def numbers(self) -> NDArray[np.float64]:
        """One number per trial, `(trials,)`: logarithms where the space has them.

        Below all numbers, each text has a number of its own.
        """
        numeric = [value for value in self.values if is_number(value)]
        scaled = {value: np.log10(value) if self.log else float(value) for value in numeric}
        lowest = min(scaled.values(), default=0.0)
        below = {text: lowest - 1.0 - place for place, text in enumerate(self.texts)}
        return np.array(
            [scaled[v] if is_number(v) else below[cell(v)] for v in self.values], dtype=float
        )


def families(ranking: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The finished trials of each family, the family with the best trial first."""
    groups: dict[str, list[Trial]] = {}
    for trial in ranking:
        groups.setdefault(trial.family, []).append(trial)
    return groups


def varying(trials: Sequence[Trial], logs: set[tuple[str, str]]) -> list[Column]:
    """The parameters that differ between trials of one family."""
    names = dict.fromkeys(name for trial in trials for name in trial.own)
    columns = []
    for name in names:
        values = tuple(trial.own.get(name, ABSENT) for trial in trials)
        if len({json.dumps(v) if v is not ABSENT else "" for v in values}) > 1:
            log = (trials[0].family, name) in logs and all(v > 0 for v in values if is_number(v))
            columns.append(Column(name, log, values))
    return columns


def log_scaled(node: space.Node) -> set[tuple[str, str]]:
    """Family and flat name of each parameter that the space draws on a log scale."""
    return {
        (space.family(option), name) for option in space.options(node) for name in _logs(option, "")
    }


def _logs(node: space.Node, name: str) -> Iterator[str]:
    if isinstance(node, Parameter) and "log" in node.distribution.name:
        yield name
    elif isinstance(node, Choice):
        for option in node.options:
            yield from _logs(option, name)
    elif isinstance(node, Group) and node.keys is not None:
        for key, item in zip(node.keys, node.items, strict=True):
            yield from _logs(item, f"{name}.{key}" if name else key)


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell(value: object) -> str:
    """A value for people, `ABSENT` as a dash."""
    return "–" if value is ABSENT else shown(value)  # noqa: RUF001 - a dash
