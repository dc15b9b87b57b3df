"""The typed table, gathered from the pieces of its sources."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data import checking
from tasks.data.schema_changes import SchemaChanges
from tasks.pipeline.schema import Pipeline
from tasks.prepare.bad_rows import REPORTED, BadRows
from tasks.prepare.columns import GrowingColumn

FEW = 10
"""A file with only bad values in a column, fewer than this, shows no change of the column's type
by itself."""


class Gathering:
    """The table while its pieces come in."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.data, self.rows, self.bad_rows = pipeline.data, 0, BadRows()
        self._required = {pipeline.split.column}
        self._changes = SchemaChanges(self.data, {pipeline.split.column, *pipeline.split.groups})
        self._columns = {name: GrowingColumn() for name in self.data.columns}

    def add(self, pieces: Iterable[tuple[str, pd.DataFrame]]) -> int:
        """Add the rows of one source, each piece with the URI of its file; returns their number."""
        before = self.rows
        good: set[str] = set()
        few: list[tuple[str, str, BadRows]] = []
        for uri, group in groupby(pieces, key=itemgetter(0)):
            few += self._add_file(uri, (raw for _, raw in group), good)
        for uri, name, failed in few:
            if name in good:
                self.bad_rows.merge(failed)
            else:
                self._change_type(uri, name, failed)
        return self.rows - before

    def check(self) -> None:
        """Raise one `UserError` with every schema change that the file does not accept."""
        self._changes.check()

    def table(self, without: NDArray[np.int64] | None = None) -> pd.DataFrame:
        """The whole table without these rows; the gathering is empty afterwards."""
        kept = None
        if without is not None:
            kept = np.ones(self.rows, dtype=bool)
            kept[without] = False
        table = {}
        for name in self.data.columns:
            column = self._columns.pop(name).take()
            table[name] = column if kept is None else column[kept].reset_index(drop=True)
        return pd.DataFrame(table, copy=False)

    def _add_file(
        self, uri: str, pieces: Iterable[pd.DataFrame], good_in_source: set[str]
    ) -> list[tuple[str, str, BadRows]]:
        """Add the rows of one file: a column may change its type between files.

        Returns columns whose values are all bad but too few to show a change of type.
        """
        seen: list[str] = []
        wrong: dict[str, BadRows] = {}
        good: set[str] = set()
        for raw in pieces:
            names = [str(name) for name in raw.columns]
            seen += [name for name in names if name not in seen]
            repeated = [name for name in self.data.columns if names.count(name) > 1]
            # pandas numbers the columns of a file without a header: 0 is the "0" of the file.
            self._add_piece(raw.set_axis(names, axis=1).drop(columns=repeated), wrong, good)
        self._changes.compare_names(uri, seen)
        good_in_source |= good
        few = []
        for name, failed in wrong.items():
            if name in good:
                self.bad_rows.merge(failed)
            elif failed.times < FEW:
                few.append((uri, name, failed))
            else:
                self._change_type(uri, name, failed)
        return few

    def _change_type(self, uri: str, name: str, failed: BadRows) -> None:
        self._changes.change_type(uri, name, failed.times, failed.report["value"].iloc[0])

    def _add_piece(self, raw: pd.DataFrame, wrong: dict[str, BadRows], good: set[str]) -> None:
        """Type and check some rows; values of the wrong type are counted by column in `wrong`."""
        checked = checking.validate(raw, self.data, self._required)
        for name, mask in checked.wrong.items():
            rows, kind = np.flatnonzero(mask), self.data.columns[name].type
            failed = wrong.setdefault(name, BadRows())
            failed.rows.append(rows + self.rows)
            rule = f"must be {checking.TYPE_WORDS[kind]}"
            failed.count(f"{name} {rule}", len(rows), self.rows + int(rows[0]))
            lines = checking.wrong_type_failures(raw[name], kind, rows[:REPORTED])
            failed.keep(lines.assign(row=lines["row"] + self.rows))
        if len(checked.broken):
            self.bad_rows.add(checked.broken, self.rows)
        for name, values in self._columns.items():
            column = checked.table[name]
            if column.notna().any():
                good.add(name)
            values.add(column)
        self.rows += len(raw)
