"""Rows from the sources, a piece at a time, to the one typed table, held once in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tasks.data import checking as tables
from tasks.data import schema_changes
from tasks.pipeline.schema import Pipeline

REPORTED = 100_000
"""Lines of a report; a table that is all bad needs no more."""
FEW = 10
"""Bad values that are a file's only ones make the column's type another from so many on."""
REPEATED = 2
"""How often a text is in its piece, on average, from where on their column is a categorical."""


@dataclass
class Failed:
    """Broken rules of rows that come in order: the first lines, and how many of each."""

    rows: list[NDArray[np.int64]] = field(default_factory=list)
    """Numbers of rows from 0; one with two broken rules is there twice."""
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Column and rule -> how often, and the first row."""
    lines: list[tables.Failures] = field(default_factory=list)

    def add(self, found: tables.Failures, first: int) -> None:
        """Add the failures of a piece whose first row has this number in the table."""
        rows = found["row"].to_numpy(dtype=np.int64) + first
        self.rows.append(rows - 1)
        for (column, rule), group in found.assign(row=rows).groupby(["column", "rule"])["row"]:
            self.count(f"{column} {rule}", len(group), int(group.min()))
        self.keep(found.assign(row=rows))

    def count(self, rule: str, times: int, first: int) -> None:
        """Count a rule that was broken `times` times, in row `first` for the first time."""
        before, earliest = self.rules.get(rule, (0, first))
        self.rules[rule] = (before + times, min(earliest, first))

    def keep(self, lines: tables.Failures) -> None:
        """Keep lines of the report while it is not full."""
        if sum(map(len, self.lines)) < REPORTED:
            self.lines.append(lines.head(REPORTED))

    def merge(self, other: Failed) -> None:
        """Take over what was counted apart."""
        self.rows += other.rows
        for rule, (times, first) in other.rules.items():
            self.count(rule, times, first)
        self.lines += other.lines
        if sum(map(len, self.lines)) > 2 * REPORTED:  # a source may have any number of files
            self.lines = [self.report]

    @property
    def times(self) -> int:
        """How many values, of one rule."""
        return sum(map(len, self.rows))

    @property
    def bad(self) -> NDArray[np.int64]:
        """Numbers of the rows with a broken rule, from 0, in order."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.rows]))

    @property
    def report(self) -> tables.Failures:
        """The first lines, in the order of the rows."""
        found = pd.concat(self.lines, ignore_index=True)
        return found.sort_values("row", kind="stable", ignore_index=True).head(REPORTED)

    def summary(self) -> list[str]:
        """Each rule with its count, in the order in which they were first broken."""
        ordered = sorted(self.rules.items(), key=lambda item: item[1][1])
        return [f"{rule}: {times} rows" for rule, (times, _) in ordered]


class Values:
    """A column that grows.

    Numbers and times lie in one array with room at its end, whose pages cost nothing until they are
    used; so the whole column is never copied beside its pieces. Of texts each is kept once, and its
    number in each row.
    """

    def __init__(self) -> None:
        self._array: NDArray[Any] | None = None
        self._size = 0
        self._texts: list[pa.DictionaryArray] = []

    def add(self, column: pd.Series[Any]) -> None:
        """Add the rows of a piece."""
        if not isinstance(column.dtype, np.dtype):
            texts = pa.array(column, type=pa.large_string())
            encoded = texts.dictionary_encode()
            # Arrow takes a chunked array among others apart, value by value.
            one = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
            self._texts.append(one)
            return
        values, size = column.to_numpy(), self._size + len(column)
        if self._array is None:
            self._array = values  # often the only piece, so not copied
        else:
            if size > len(self._array):
                grown = _room(2 * size, values.dtype)
                grown[: self._size] = self._array[: self._size]
                self._array = grown
            self._array[self._size : size] = values
        self._size = size

    def whole(self) -> pd.Series[Any]:
        """All rows, the pieces are gone then; texts as a categorical, unless few are there twice.

        A categorical's names are objects of Python: 5 million unique ones took 2 GB more.
        """
        if self._array is not None:
            return pd.Series(self._array[: self._size], copy=False)
        parts, self._texts = self._texts, []
        if sum(len(part.dictionary) for part in parts) * REPEATED > sum(map(len, parts)):
            texts = pa.concat_arrays([part.dictionary_decode() for part in parts])
        else:
            texts = pa.chunked_array(parts).unify_dictionaries()
        whole: pd.Series[Any] = texts.to_pandas()
        del parts, texts
        pa.default_memory_pool().release_unused()  # or it stays beside the table
        return whole


def _room(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of zeros, apart from the heap: there, freed ones of each size stayed (1 GB of 2)."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, size * dtype.itemsize, private), dtype)


class Gathering:
    """The table while its pieces come in."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.data, self.rows, self.failed = pipeline.data, 0, Failed()
        self._required = {pipeline.split.column}
        self._drift = schema_changes.Report(
            self.data, {pipeline.split.column, *pipeline.split.groups}
        )
        self._columns = {name: Values() for name in self.data.columns}

    def add(self, pieces: Iterable[tuple[str, pd.DataFrame]]) -> int:
        """Add the rows of one source, each piece with the file that it is of; returns how many."""
        before = self.rows
        good: set[str] = set()
        few: list[tuple[str, str, Failed]] = []
        for file, parts in groupby(pieces, key=itemgetter(0)):
            few += self._file(file, (raw for _, raw in parts), good)
        for file, name, failed in few:
            if name in good:
                self.failed.merge(failed)
            else:
                self._changed(file, name, failed)
        return self.rows - before

    def _file(
        self, file: str, pieces: Iterable[pd.DataFrame], good_of_source: set[str]
    ) -> list[tuple[str, str, Failed]]:
        """Add the rows of one file: a column may change its type from one to the next.

        Returns where a few values of a column are all wrong, which tells little by itself.
        """
        found: list[str] = []
        wrong: dict[str, Failed] = {}
        good: set[str] = set()
        for raw in pieces:
            names = [str(name) for name in raw.columns]
            found += [name for name in names if name not in found]
            twice = [name for name in self.data.columns if names.count(name) > 1]
            # pandas numbers the columns of a file without a header: 0 is the "0" of the file.
            self._piece(raw.set_axis(names, axis=1).drop(columns=twice), wrong, good)
        self._drift.names(file, found)
        good_of_source |= good
        few = []
        for name, failed in wrong.items():
            if name in good:
                self.failed.merge(failed)
            elif failed.times < FEW:
                few.append((file, name, failed))
            else:
                self._changed(file, name, failed)
        return few

    def _changed(self, file: str, name: str, failed: Failed) -> None:
        self._drift.changed(file, name, failed.times, failed.report["value"].iloc[0])

    def _piece(self, raw: pd.DataFrame, wrong: dict[str, Failed], good: set[str]) -> None:
        """Type and check some rows; what has the wrong type is counted apart, by its column."""
        checked = tables.validate(raw, self.data, self._required)
        for name, odd in checked.wrong.items():
            rows = np.flatnonzero(odd)
            failed = wrong.setdefault(name, Failed())
            failed.rows.append(rows + self.rows)
            rule = f"must be {tables.TYPE_WORDS[self.data.columns[name].type]}"
            failed.count(f"{name} {rule}", len(rows), self.rows + int(rows[0]))
            lines = tables.of_wrong_type(raw[name], self.data.columns[name].type, rows[:REPORTED])
            failed.keep(lines.assign(row=lines["row"] + self.rows))
        if len(checked.broken):
            self.failed.add(checked.broken, self.rows)
        for name, values in self._columns.items():
            column = checked.table[name]
            if column.notna().any():
                good.add(name)
            values.add(column)
        self.rows += len(raw)

    def check(self) -> None:
        """Raise a `UserError` on schema drift, all of it in one message."""
        self._drift.check()

    def table(self, without: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The whole table, less these rows; the pieces are gone then."""
        kept = None
        if without is not None:
            kept = np.ones(self.rows, dtype=bool)
            kept[without] = False
        whole = {}
        for name in self.data.columns:
            column = self._columns.pop(name).whole()
            whole[name] = column if kept is None else column[kept].reset_index(drop=True)
        return pd.DataFrame(whole, copy=False)
