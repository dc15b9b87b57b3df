"""The point that a trial tries: hyperopt's answer to what the search has seen so far.

The answer depends only on the search's seed, the trial's number and the rows of the table. So an
interrupted search with one slot asks for the same points as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK, Trials, rand, tpe
from hyperopt.base import Domain

from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.trials.progress import total
from tasks.records.trials.seeds import sequence
from tasks.records.trials.table import Row, ranked
from tasks.search.table import Vals

MOST_START_UP = 20
AT_ONCE = 100
"""Open trials to look at for a free one: more than a search can have slots."""


class History:
    """What a slot knows of its search. It keeps recorded trials, because they never change."""

    def __init__(self) -> None:
        self._done: dict[int, Row] = {}
        self._pending: list[Row] = []
        self.first = 0
        """Every trial below this number is recorded and known here."""

    def update(self, rows: Iterable[Row]) -> None:
        """Add the asked trials from number `first` on."""
        self._pending = []
        for row in rows:
            if row.outcome is None:
                self._pending.append(row)
            else:
                self._done[row.tid] = row
        while self.first in self._done:
            self.first += 1

    def left(self, total: int) -> list[int]:
        """The lowest trials of `total` that are not known to have an outcome."""
        open_ = (tid for tid in range(self.first, total) if tid not in self._done)
        return list(islice(open_, AT_ONCE))

    def recorded(self, tid: int) -> bool:
        """Whether the trial has an outcome."""
        return tid in self._done

    def asked(self, tid: int) -> Row | None:
        """The row of a trial that was asked and has no outcome."""
        return next((row for row in self._pending if row.tid == tid), None)

    def best(self) -> Row | None:
        """The best finished trial."""
        return next(iter(ranked(self._done.values())), None)

    def rows(self) -> list[Row]:
        """All asked trials, by number."""
        return sorted((*self._done.values(), *self._pending), key=lambda row: row.tid)


class Asker:
    """The points of one search."""

    def __init__(self, pipeline: Pipeline) -> None:
        search = pipeline.search
        self.node = space.parse(search.space)
        self._algorithm, self._seed = search.algorithm, search.seed
        self._grid = space.grid(self.node) if search.algorithm == "grid" else None
        first = () if self._grid else search.points  # a grid tries them in its own order
        self.given = [space.to_vals(self.node, point) for point in first]
        self.total = total(pipeline)
        self.start_up = min(MOST_START_UP, self.total // 4)
        self._no_trials = Trials()
        self._domain = Domain(_never_called, space.to_hyperopt(self.node))

    def ask(self, tid: int, history: History) -> Vals:
        """The vals of trial `tid`, which must not be in the history."""
        if self._grid is not None:
            return dict(self._grid.at(tid))
        seed = int(np.random.default_rng(sequence(self._seed, tid)).integers(2**31))
        if self._algorithm == "random" or tid < max(self.start_up, 1):
            docs = rand.suggest([tid], self._domain, self._no_trials, seed)
        else:
            trials = _DocumentTrials([self._document(row) for row in history.rows()])
            docs = tpe.suggest([tid], self._domain, trials, seed, n_startup_jobs=0, verbose=False)
        asked = docs[0]["misc"]["vals"]
        return {label: np.asarray(vals[0]).item() for label, vals in asked.items() if vals}

    def _document(self, row: Row) -> dict[str, Any]:
        """The row as hyperopt sees it.

        Trials that failed or still run count as failed. With an error or NaN hyperopt would leave
        them out of the history, and TPE would return to the same points.
        """
        labels = self._domain.params
        misc = {
            "tid": row.tid,
            "cmd": ("domain_attachment", "FMinIter_Domain"),
            "idxs": {label: [row.tid] if label in row.vals else [] for label in labels},
            "vals": {label: [row.vals[label]] if label in row.vals else [] for label in labels},
        }
        failed = {"status": STATUS_FAIL}
        result = failed if row.loss is None else {"status": STATUS_OK, "loss": row.loss}
        (document,) = self._no_trials.new_trial_docs([row.tid], [None], [result], [misc])
        return dict(document, state=JOB_STATE_DONE)


class _DocumentTrials(Trials):  # type: ignore[misc]
    """Hyperopt trials made of documents, without copying and checking each."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        super().__init__()
        self._dynamic_trials = documents
        self.refresh()


def _never_called(_: object) -> None:
    raise NotImplementedError
