"""Rows that break the rules of the table: how many, which rules, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.checking import Failures

REPORTED = 100_000
"""Lines of a report; a table that is all bad needs no more."""


@dataclass
class BadRows:
    """Broken rules of rows that come in order."""

    rows: list[NDArray[np.int64]] = field(default_factory=list)
    """Numbers of rows from 0; a row that breaks two rules occurs twice."""
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Column and rule -> how often, and the first row."""
    lines: list[Failures] = field(default_factory=list)

    def add(self, failures: Failures, first: int) -> None:
        """Add the failures of a piece; `first` is the number of its first row in the table."""
        rows = failures["row"].to_numpy(dtype=np.int64) + first
        self.rows.append(rows - 1)
        failures = failures.assign(row=rows)
        for (column, rule), group in failures.groupby(["column", "rule"])["row"]:
            self.count(f"{column} {rule}", len(group), int(group.min()))
        self.keep(failures)

    def count(self, rule: str, times: int, first: int) -> None:
        """Count a rule that was broken `times` times, first in row `first`."""
        before, earliest = self.rules.get(rule, (0, first))
        self.rules[rule] = (before + times, min(earliest, first))

    def keep(self, lines: Failures) -> None:
        """Keep lines for the report until it is full."""
        if sum(map(len, self.lines)) < REPORTED:
            self.lines.append(lines.head(REPORTED))

    def merge(self, other: BadRows) -> None:
        """Add what was counted separately."""
        self.rows += other.rows
        for rule, (times, first) in other.rules.items():
            self.count(rule, times, first)
        self.lines += other.lines
        if sum(map(len, self.lines)) > 2 * REPORTED:  # a source may have any number of files
            self.lines = [self.report]

    @property
    def times(self) -> int:
        """How many failures there are."""
        return sum(map(len, self.rows))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of the rows that break a rule, from 0, in order."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.rows]))

    @property
    def report(self) -> Failures:
        """The first lines, in the order of the rows."""
        lines = pd.concat(self.lines, ignore_index=True)
        return lines.sort_values("row", kind="stable", ignore_index=True).head(REPORTED)

    def summary(self) -> list[str]:
        """Each rule with its count, in the order in which they were first broken."""
        ordered = sorted(self.rules.items(), key=lambda item: item[1][1])
        return [f"{rule}: {times} rows" for rule, (times, _) in ordered]
