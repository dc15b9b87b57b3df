"""The finished trials of a run, best first, while its search runs and after."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tasks.base.commands import typed
from tasks.base.errors import UserError
from tasks.clients import tracking
from tasks.records import resolved
from tasks.records.trials.table import Trial, ranked, read


@dataclass(frozen=True)
class Leaderboard:
    """The ranking of one search."""

    metric: str
    trials: tuple[Trial, ...]

    def lines(self) -> list[dict[str, Any]]:
        """For each trial its rank, figures, flat parameters and child run."""
        return [self._line(rank, trial) for rank, trial in enumerate(self.trials, 1)]

    def _line(self, rank: int, trial: Trial) -> dict[str, Any]:
        figure, training = f"val_{self.metric}", f"training_{self.metric}"
        spread = {name: trial.metrics[name] for name in (f"{figure}_std",) if name in trial.metrics}
        return {
            "rank": rank,
            "trial": trial.tid,
            "estimator": trial.family,
            figure: trial.figure,
            **spread,  # of folds
            training: trial.metrics.get(training),
            "duration_s": trial.duration_s,
            "run_id": trial.run_id,
            **trial.own,
        }


def newest(name: str) -> Leaderboard:
    """The leaderboard of the pipeline's newest run.

    Raises:
        UserError: The pipeline was never run.
    """
    run = tracking.find_run(name, tracking.NAME, name)
    if run is None:
        raise UserError(f"{name} was never trained.", fix=typed(f"run {name}"))
    reference = tracking.reference(run)
    metric = resolved.read(reference.pipeline_uri).metric.name
    return Leaderboard(metric, tuple(ranked(read(reference.run_id))))


def write_csv(stream: IO[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the lines with a column for every parameter that any trial has."""
    columns: Iterable[str] = dict.fromkeys(key for line in lines for key in line)
    writer = csv.DictWriter(stream, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
