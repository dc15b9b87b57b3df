"""How far a search is, from its table alone: no ML library is imported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.trials.table import Trial, ranked, read

LAST_ERRORS = 3


@dataclass(frozen=True)
class Summary:
    """Counts of a search's trials, and the best of them."""

    asked: int
    finished: int
    failed: int
    killed: int
    best: Trial | None
    errors: tuple[str, ...]
    """The first lines of the last few errors."""

    @property
    def recorded(self) -> int:
        """How many trials have an outcome."""
        return self.finished + self.failed + self.killed


def total(pipeline: Pipeline) -> int:
    """How many trials a search has unless its time runs out: a grid can have fewer than asked."""
    return min(pipeline.search.trials, _grid_size(pipeline))


def untried(pipeline: Pipeline) -> str:
    """In words, how much of a grid `trials` leaves out; empty if nothing."""
    trials = pipeline.search.trials
    left_out = _grid_size(pipeline) - trials
    return f"{trials} trials leave out {left_out} points of the grid" if left_out > 0 else ""


def _grid_size(pipeline: Pipeline) -> int:
    """How many points the grid has; without a grid, as many as there are trials."""
    search = pipeline.search
    return (
        space.grid(space.parse(search.space)).size if search.algorithm == "grid" else search.trials
    )


def summary(search: str) -> Summary:
    """The state of the search whose parent run is `search`."""
    trials = read(search)
    counts = Counter(trial.outcome for trial in trials)
    errors = [(t.ended, t.tid, t.error) for t in trials if t.ended is not None and t.error]
    latest = sorted(errors, reverse=True)[:LAST_ERRORS]
    return Summary(
        asked=len(trials),
        finished=counts["finished"],
        failed=counts["failed"],
        killed=counts["killed"],
        best=next(iter(ranked(trials)), None),
        errors=tuple(f"trial {tid}: {error.splitlines()[0]}" for _, tid, error in latest),
    )
