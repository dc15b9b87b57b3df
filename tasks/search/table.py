"""The table `trial`, as a slot reads and writes it over its lease.

A slot reads the new rows before each trial, so it reads only the columns that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tasks.records.trials.table import ROW, Row
from tasks.search.session import Lease

Vals = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A point as the table stores it: hyperopt's `vals` and the user's flat parameters."""

    tid: int
    vals: Vals
    params: dict[str, Any]


class Table:
    """The trials of one search."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._search = lease.search

    def unfinished(self) -> list[int]:
        """Asked trials without an outcome."""
        rows = self.lease.query(
            "select tid from trial where search = %s and outcome is null order by tid", self._search
        )
        return [tid for (tid,) in rows]

    def age(self) -> float:
        """Seconds since the first point was asked; 0 before."""
        ((age,),) = self.lease.query(
            "select extract(epoch from clock_timestamp() - min(asked_at))::float8 from trial"
            " where search = %s",
            self._search,
        )
        return float(age or 0.0)

    def rows(self, first: int = 0) -> list[Row]:
        """The asked trials from number `first` on."""
        rows = self.lease.query(
            f"select {ROW} from trial"  # noqa: S608 - our own text
            " where search = %s and tid >= %s order by tid",
            self._search,
            first,
        )
        return [Row(*row) for row in rows]

    def ask(self, points: Iterable[Point]) -> None:
        """Write points that have not begun, all of them or none."""
        values = [value for point in points for value in self._values(point)]
        if values:
            places = ", ".join(["(%s, %s, %s, %s)"] * (len(values) // 4))
            self.lease.query(
                f"insert into trial (search, tid, vals, params) values {places}",  # noqa: S608
                *values,
            )

    def begin(self, point: Point) -> None:
        """Record that a fit begins. From now on every slot sees the point as pending."""
        self.lease.query(
            "insert into trial (search, tid, vals, params, attempts, began_at)"
            " values (%s, %s, %s, %s, 1, clock_timestamp()) on conflict (search, tid) do update"
            " set attempts = trial.attempts + 1, began_at = excluded.began_at",
            *self._values(point),
        )

    def died(self, tid: int) -> None:
        """Record that the trial killed its process."""
        self.lease.query(
            "update trial set deaths = deaths + 1 where search = %s and tid = %s",
            self._search,
            tid,
        )

    def record(self, tid: int, result: dict[str, Any]) -> None:
        """Record the outcome."""
        self.lease.query(
            "update trial set outcome = %s, loss = %s, figure = %s, metrics = %s, error = %s,"
            " curves = %s, warnings = %s,"
            " ended_at = clock_timestamp(), began_at = coalesce(began_at, clock_timestamp())"
            " where search = %s and tid = %s",
            result["outcome"],
            result.get("loss"),
            result.get("figure"),
            json.dumps(result.get("metrics", {})),
            _storable(result.get("error")),
            json.dumps(result.get("curves", {})),
            _storable(result.get("warnings")),
            self._search,
            tid,
        )

    def _values(self, point: Point) -> tuple[Any, ...]:
        return self._search, point.tid, json.dumps(point.vals), json.dumps(point.params)


def _storable(text: str | None) -> str | None:
    """A library's message without what PostgreSQL cannot store."""
    return text and text.replace("\0", "").encode(errors="replace").decode()
