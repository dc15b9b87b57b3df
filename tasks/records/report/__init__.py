"""What the parent run shows of a search: plots, the leaderboard, and a page with all of it."""

from __future__ import annotations

import base64
import io
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jinja2
from matplotlib.figure import Figure
from PIL import Image

from tasks.base.refs import RunRef
from tasks.clients import tracking
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.records.report import charts, importance, parallel
from tasks.records.report.columns import families, log_scaled
from tasks.records.trials.leaderboard import Leaderboard, write_csv
from tasks.records.trials.table import Trial, ranked, read, shown

log = logging.getLogger(__name__)

DPI, COLORS = 110, 128
MOST_ROWS = 200
"""Rows of the page's table; leaderboard.csv has every trial."""


def write(run: RunRef, pipeline: Pipeline) -> None:
    """Put `report.html`, its plots and `leaderboard.csv` on the parent run.

    At least one trial must have finished.
    """
    recorded = [trial for trial in read(run.run_id, curves=True) if trial.outcome is not None]
    try:
        contents = files(run, pipeline, recorded)
    except (ArithmeticError, TypeError, ValueError):
        # numpy and matplotlib raise these on values that no plot can show. The search is done.
        log.exception("the report of the search could not be made")
        return
    with tempfile.TemporaryDirectory(prefix="mlops-report-") as folder:
        for name, content in contents.items():
            (Path(folder) / name).write_bytes(content)
        tracking.client().log_artifacts(run.run_id, folder)


def files(run: RunRef, pipeline: Pipeline, recorded: Sequence[Trial]) -> dict[str, bytes]:
    """Each file's name and content."""
    ranking = ranked(recorded)
    logs = log_scaled(space.parse(pipeline.search.space))
    plots = _plots(pipeline, recorded, ranking, logs)
    importances = [importance.of_families(ranking)] + [
        importance.of_parameters(family, trials, logs)
        for family, trials in families(ranking).items()
    ]
    page = _template().render(
        run=run,
        pipeline=pipeline,
        metric=pipeline.metric.name,
        figure=f"val_{pipeline.metric.name}",
        counts={
            outcome: sum(trial.outcome == outcome for trial in recorded)
            for outcome in ("finished", "failed", "killed")
        },
        ranking=ranking[:MOST_ROWS],
        hidden=max(0, len(ranking) - MOST_ROWS),
        lost=[trial for trial in recorded if trial.loss is None],
        warned=_warned(recorded),
        importances=[each for each in importances if each is not None],
        plots={
            name.removesuffix(".png"): f"data:image/png;base64,{base64.b64encode(png).decode()}"
            for name, png in plots.items()
        },
    )
    board = io.StringIO()
    write_csv(board, Leaderboard(pipeline.metric.name, tuple(ranking)).lines())
    return {**plots, "report.html": page.encode(), "leaderboard.csv": board.getvalue().encode()}


def _plots(
    pipeline: Pipeline,
    recorded: Sequence[Trial],
    ranking: list[Trial],
    logs: set[tuple[str, str]],
) -> dict[str, bytes]:
    """Each plot's file name and PNG."""
    drawn = {
        "score_over_trials.png": charts.score_over_trials(recorded, pipeline.metric),
        "families.png": charts.best_of_families(ranking, f"val_{pipeline.metric.name}"),
        "parallel_coordinates.png": parallel.coordinates(ranking, pipeline.metric, logs),
        "curves.png": charts.curves(ranking),
    }
    return {name: _png(chart) for name, chart in drawn.items() if chart is not None}


def _warned(recorded: Sequence[Trial]) -> dict[str, list[int]]:
    """Each warning with the trials that gave it."""
    tids: dict[str, list[int]] = {}
    for trial in recorded:
        for line in (trial.warnings or "").splitlines():
            tids.setdefault(line, []).append(trial.tid)
    return tids


def _png(chart: Figure) -> bytes:
    """The chart as PNG with a palette, a third of the size."""
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
