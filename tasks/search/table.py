"""The table `trial`, as a slot reads and writes it over its lease."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tasks.search.session import Lease

Vals = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One trial of the table. `outcome` is None until it is recorded."""

    tid: int
    vals: Vals
    outcome: str | None
    loss: float | None
    figure: float | None
    deaths: int


@dataclass(frozen=True)
class Point:
    """A point as it is written: hyperopt's `vals` and the user's flat parameters."""

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
        found = self.lease.query(
            "select tid from trial where search = %s and outcome is null order by tid", self._search
        )
        return [tid for (tid,) in found]

    def age(self) -> float:
        """Seconds since the first point was asked; 0 before."""
        found = self.lease.query(
            "select extract(epoch from clock_timestamp() - min(asked_at))::float8 from trial"
            " where search = %s",
            self._search,
        )
        return float(found[0][0] or 0.0)

    def rows(self, first: int = 0) -> list[Row]:
        """The asked trials from number `first` on."""
        found = self.lease.query(
            "select tid, vals, outcome, loss, figure, deaths from trial"
            " where search = %s and tid >= %s order by tid",
            self._search,
            first,
        )
        return [Row(*one) for one in found]

    def ask(self, points: Iterable[Point]) -> None:
        """Write points that are not begun yet, all of them or none."""
        values = [value for point in points for value in self._values(point)]
        if values:
            places = ", ".join(["(%s, %s, %s, %s)"] * (len(values) // 4))
            self.lease.query(
                f"insert into trial (search, tid, vals, params) values {places}",  # noqa: S608
                *values,
            )

    def begin(self, point: Point) -> None:
        """Note that a fit begins; a new point is from now on pending to every slot."""
        self.lease.query(
            "insert into trial (search, tid, vals, params, attempts, began_at)"
            " values (%s, %s, %s, %s, 1, clock_timestamp()) on conflict (search, tid) do update"
            " set attempts = trial.attempts + 1, began_at = excluded.began_at",
            *self._values(point),
        )

    def died(self, tid: int) -> None:
        """Note that the trial's process did not survive it."""
        self.lease.query(
            "update trial set deaths = deaths + 1 where search = %s and tid = %s",
            self._search,
            tid,
        )

    def record(self, tid: int, result: dict[str, Any]) -> None:
        """Write the outcome."""
        self.lease.query(
            "update trial set outcome = %s, loss = %s, figure = %s, metrics = %s, error = %s,"
            " curves = %s, warnings = %s,"
            " ended_at = clock_timestamp(), began_at = coalesce(began_at, clock_timestamp())"
            " where search = %s and tid = %s",
            result["outcome"],
            result.get("loss"),
            result.get("figure"),
            json.dumps(result.get("metrics", {})),
            _kept(result.get("error")),
            json.dumps(result.get("curves", {})),
            _kept(result.get("warnings")),
            self._search,
            tid,
        )

    def _values(self, point: Point) -> tuple[Any, ...]:
        return self._search, point.tid, json.dumps(point.vals), json.dumps(point.params)


def _kept(text: str | None) -> str | None:
    """What PostgreSQL can hold of a library's words."""
    return text and text.replace("\0", "").encode(errors="replace").decode()
