"""One slot of a search: trial after trial, until each has an outcome.

    lease  = a PostgreSQL session, which ends with this process or when the process falls silent
    tid    = the lowest trial without an outcome whose lock is free
    vals   = the asked point, written before the fit: other slots see it as pending
    result = the fit, in the slot's process for trials
    record = over the same lease: a slot that lost the lock lost the session, and cannot write

No slot cleans up after another. MLflow gets its copy during the next fit.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.base.errors import UnavailableError
from tasks.base.refs import SlotRef
from tasks.clients import tracking
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.trials.seeds import trial_seed
from tasks.records.trials.table import Row, shown
from tasks.search.ask import Asker, History
from tasks.search.points import first_points
from tasks.search.publishing import PublishingThread
from tasks.search.session import START, Lease, LeaseLostError
from tasks.search.table import Point, Table, Vals
from tasks.search.trial_process import MemoryUpError, WorkerDiedError
from tasks.search.worker import TimeUpError, Worker

log = logging.getLogger(__name__)

MOST_DEATHS = 3
"""A trial that killed its process this often has failed."""
RETRY = 0.3
"""Seconds between attempts to lock a trial while other slots work on all that are open."""
OUTAGE_LIMIT = 300.0
"""Seconds that PostgreSQL may be away."""
PUBLISHING_LIMIT = 30.0
"""Seconds at the end to publish what is not in MLflow yet."""


class Slot:
    """The state of one slot."""

    def __init__(self, ref: SlotRef, pipeline: Pipeline, worker: Worker) -> None:
        self._ref, self._pipeline, self._worker = ref, pipeline, worker
        self._asker = Asker(pipeline)
        self._history = History()
        self._publisher = PublishingThread(ref)
        self._recorded = 0

    def run(self) -> dict[str, Any]:
        """Run trials until none is left; returns a summary.

        Raises:
            UserError: The pipeline does not fit its snapshot.
            UnavailableError: PostgreSQL or the store was away for minutes.
        """
        gc.freeze()  # a full collection of what MLflow and hyperopt import takes 300 ms
        with tracking.impatient():
            self._publisher.start()
            try:
                self._all_trials()
            finally:
                self._publisher.close(PUBLISHING_LIMIT)
        best = self._history.best()
        return {
            "slot": self._ref.slot,
            "recorded": self._recorded,
            "best": best and best.figure,
            "best_trial": best and best.tid,
        }

    def _all_trials(self) -> None:
        while True:
            try:
                with self._lease() as lease:
                    self._trials(Table(lease))
                    return
            except LeaseLostError as err:
                log.warning("lost the PostgreSQL session, connecting again: %s", err)
                time.sleep(RETRY)

    @contextmanager
    def _lease(self) -> Iterator[Lease]:
        """A new session; waits for a server that is away."""
        deadline, pause = time.monotonic() + OUTAGE_LIMIT, 0.2
        while True:
            try:
                lease = Lease(self._ref.run_id)
            except (UnavailableError, LeaseLostError) as err:
                if time.monotonic() + pause > deadline:
                    raise UnavailableError("PostgreSQL is away.", why=str(err)) from err
                log.warning("PostgreSQL does not answer, waiting: %s", err)
                time.sleep(pause)
                pause = min(2 * pause, 5)
            else:
                break
        with lease:
            yield lease

    def _trials(self, table: Table) -> None:
        self._begin(table)
        while (tid := self._take(table)) is not None:
            self._trial(table, tid)
            table.lease.unlock(tid)

    def _begin(self, table: Table) -> None:
        """Write the first points, once: a champion that moves later must not change them."""
        table.lease.lock(START)
        self._history.update(table.rows(self._history.first))
        if not self._history.rows():
            defaults = self._worker.ready(table.lease.lost)
            table.ask(first_points(self._pipeline, self._asker, defaults))
        table.lease.unlock(START)

    def _take(self, table: Table) -> int | None:
        """Lock the lowest free trial; None if nothing is left to do."""
        while left := self._history.left(self._asker.total):
            if self._time_left(table) <= 0:
                self._close(table)
                return None
            self._worker.ready(table.lease.lost)
            tid = next((tid for tid in left if table.lease.try_lock(tid)), None)
            if tid is None:
                table.lease.lost.wait(RETRY)
            self._history.update(table.rows(self._history.first))
            if tid is not None and self._history.recorded(tid):
                table.lease.unlock(tid)  # another slot recorded it meanwhile
            elif tid is not None:
                return tid
        return None

    def _trial(self, table: Table, tid: int) -> None:
        """Ask, fit, record. The lock is held."""
        row = self._history.asked(tid)
        vals = row.vals if row else self._asker.ask(tid, self._history)
        params = space.evaluate(self._asker.node, vals)
        limit = min(self._pipeline.search.trial_timeout, self._time_left(table))
        table.begin(Point(tid, vals, space.flatten(params)))
        self._worker.send({"params": params, "seed": trial_seed(self._pipeline.search.seed, tid)})
        self._publisher.wake()  # only now, or publishing would delay the next fit
        began = time.monotonic()
        try:
            result = self._worker.result(limit, table.lease.lost)
        except TimeUpError:
            result = _killed(f"It was over its time limit of {limit:g} s.", limit)
        except MemoryUpError as err:
            result = _killed(str(err), time.monotonic() - began)
        except WorkerDiedError as err:
            table.died(tid)
            deaths = 1 + (row.deaths if row else 0)
            log.warning("trial %d lost its process, death %d: %s", tid, deaths, err)
            if deaths < MOST_DEATHS:
                return
            result = {"outcome": "failed", "error": f"Its process died {deaths} times.\n{err}"}
        table.record(tid, result)
        self._history.update([_row(tid, vals, result)])
        self._recorded += 1
        self._log_outcome(tid, params, result)

    def _time_left(self, table: Table) -> float:
        """Seconds that the whole search may still take."""
        timeout = self._pipeline.search.timeout
        return float("inf") if timeout is None else timeout - table.age()

    def _close(self, table: Table) -> None:
        """Record open trials as killed, as time is up; fits in other slots end by themselves."""
        for tid in table.unfinished():
            if table.lease.try_lock(tid):
                if tid in table.unfinished():
                    table.record(tid, _killed("The time of the search was up.", 0.0))
                table.lease.unlock(tid)
        self._history.update(table.rows(self._history.first))
        log.info("the time of the search is up")

    def _log_outcome(self, tid: int, params: dict[str, Any], result: dict[str, Any]) -> None:
        """Log one line about the trial."""
        flat = space.flatten(params)
        point = " ".join(f"{key}={shown(value)}" for key, value in flat.items())
        if result["outcome"] != "finished":
            first, _, _ = result["error"].partition("\n")
            log.warning("trial %d %s: %s: %s", tid, result["outcome"], first, point)
            return
        best = self._history.best()
        assert best is not None
        log.info(
            "trial %d of %d: val_%s %.6g in %.2f s, best %.6g (trial %d): %s",
            tid,
            self._asker.total,
            self._pipeline.metric.name,
            result["figure"],
            result["metrics"]["duration_s"],
            best.figure,
            best.tid,
            point,
        )


def _killed(error: str, seconds: float) -> dict[str, Any]:
    return {"outcome": "killed", "error": error, "metrics": {"duration_s": seconds}}


def _row(tid: int, vals: Vals, result: dict[str, Any]) -> Row:
    duration_s = result.get("metrics", {}).get("duration_s", 0.0)
    loss, figure = result.get("loss"), result.get("figure")
    return Row(tid, vals, result["outcome"], loss, figure, duration_s, 0)
