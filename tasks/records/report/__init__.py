"""What the parent run shows of a search: plots, the leaderboard, and all of it on one page."""

from __future__ import annotations

import base64
import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from tasks.base.refs import RunRef
from tasks.clients import tracking
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.report import charts, importance, parallel, trials
from tasks.records.report.trials import Trial, shown

log = logging.getLogger(__name__)

DPI, COLORS = 110, 128
MOST_ROWS = 200
"""Trials of the page's table; leaderboard.csv has all."""


def write(run: RunRef, pipeline: Pipeline) -> None:
    """Put `report.html`, its plots and `leaderboard.csv` on the parent run.

    At least one trial must have finished.
    """
    every = trials.read(run.run_id)
    try:
        made = files(run, pipeline, every)
    except (ArithmeticError, TypeError, ValueError):
        # What numpy and matplotlib raise on a value that no plot can show: the search is done.
        log.exception("the report of the search could not be made")
        return
    with tempfile.TemporaryDirectory(prefix="mlops-report-") as folder:
        for name, content in made.items():
            (Path(folder) / name).write_bytes(content)
        tracking.client().log_artifacts(run.run_id, folder)


def files(run: RunRef, pipeline: Pipeline, every: Sequence[Trial]) -> dict[str, bytes]:
    """Each file's name and content."""
    figure, ranking = f"val_{pipeline.metric.name}", trials.ranked(every)
    logs = trials.log_scaled(space.parse(pipeline.search.space))
    plots = {
        "score_over_trials.png": _png(charts.score_over_trials(every, pipeline.metric)),
        "families.png": _png(charts.best_of_families(ranking, figure)),
        "parallel_coordinates.png": _png(parallel.coordinates(ranking, pipeline.metric, logs)),
    }
    curves = charts.curves(ranking)
    if curves is not None:
        plots["curves.png"] = _png(curves)
    found = [importance.of_families(ranking)] + [
        importance.of_parameters(family, own, logs)
        for family, own in trials.families(ranking).items()
    ]
    page = _template().render(
        run=run,
        pipeline=pipeline,
        metric=pipeline.metric.name,
        figure=figure,
        counts={
            outcome: sum(one.outcome == outcome for one in every)
            for outcome in ("finished", "failed", "killed")
        },
        ranking=ranking[:MOST_ROWS],
        hidden=max(0, len(ranking) - MOST_ROWS),
        lost=[one for one in every if one.loss is None],
        warned=_warned(every),
        importances=[one for one in found if one is not None],
        plots={
            name.removesuffix(".png"): f"data:image/png;base64,{base64.b64encode(png).decode()}"
            for name, png in plots.items()
        },
    )
    board = _leaderboard(ranking, pipeline)
    return {**plots, "report.html": page.encode(), "leaderboard.csv": board.encode()}


def _leaderboard(ranking: Sequence[Trial], pipeline: Pipeline) -> str:
    """A line a finished trial, best first, with its flat parameters."""
    figure, training = f"val_{pipeline.metric.name}", f"training_{pipeline.metric.name}"
    lines: list[dict[str, Any]] = []
    for rank, one in enumerate(ranking, 1):
        std = {key: one.metrics[key] for key in (f"{figure}_std",) if key in one.metrics}
        lines.append(
            {
                "rank": rank,
                "trial": one.tid,
                figure: one.figure,
                **std,
                training: one.metrics.get(training),
                "duration_s": one.metrics["duration_s"],
                **one.params,
                "run_id": one.run_id,
            }
        )
    return str(pd.DataFrame(lines).to_csv(index=False))


def _warned(every: Sequence[Trial]) -> dict[str, list[int]]:
    """Each warning with the trials that gave it."""
    found: dict[str, list[int]] = {}
    for one in every:
        for line in (one.warnings or "").splitlines():
            found.setdefault(line, []).append(one.tid)
    return found


def _png(chart: Figure) -> bytes:
    """With a palette, a third of the size."""
    drawn, content = io.BytesIO(), io.BytesIO()
    chart.savefig(drawn, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    Image.open(drawn).convert("RGB").quantize(COLORS).save(content, format="png")
    return content.getvalue()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    return environment.get_template("report.html.j2")
