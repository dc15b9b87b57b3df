"""Parallel coordinates: one line per trial, one axis per parameter, one panel per family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from tasks.pipeline.schema import Metric
from tasks.records.report.charts import shown_range
from tasks.records.report.columns import Column, cell, families, is_number, varying
from tasks.records.trials.table import Trial, shown

BEST, INK = "#d9480f", "#2b2b2b"
COLORS = LinearSegmentedColormap.from_list("scores", ["#0b3c6f", "#3f8fc5", "#a9c6d9", "#c9c9c9"])
PANEL = 2.35
"""Inches."""
MOST_PANELS, MOST_AXES = 8, 9
STEP = 0.17
"""Distance between values that are not numbers, below the numbers of an axis."""
LONGEST_VALUE, LONGEST_NAME = 20, 24
"""Characters of a value, and of an axis's name."""


@dataclass(frozen=True)
class Axis:
    """One vertical axis: where each trial's line crosses it, and its labels."""

    name: str
    heights: NDArray[np.float64]
    ticks: tuple[tuple[float, str], ...]


def coordinates(ranking: list[Trial], metric: Metric, logs: set[tuple[str, str]]) -> Figure:
    """A panel of all families by trial, family and seconds; then one per family that varies."""
    minimizes, figure = metric.direction == "minimize", f"val_{metric.name}"
    scores = [trial.score for trial in ranking]
    low, high = shown_range(scores, minimizes=minimizes)
    panels = [("All families", ranking, _common(ranking))]
    for family, own in families(ranking).items():
        columns = varying(own, logs)[:MOST_AXES]
        if columns and len(panels) <= MOST_PANELS:
            panels.append((family, own, [_axis(column) for column in columns]))
    height = 0.75 + PANEL * len(panels)
    chart = Figure(figsize=(9, height))
    grid = chart.subplots(len(panels), 1, squeeze=False)[:, 0]
    chart.subplots_adjust(
        left=0.09, right=0.87, top=1 - 0.55 / height, bottom=0.2 / height, hspace=0.42
    )
    norm = Normalize(*shown_range(scores, minimizes=minimizes, most=0.6))
    colors = COLORS if minimizes else COLORS.reversed()
    for axes, (title, own, parameters) in zip(grid, panels, strict=True):
        own_scores = np.array([trial.score for trial in own])
        last = _score_axis(figure, own_scores, (low, high), minimizes=minimizes)
        _draw(axes, [*parameters, last], colors(norm(own_scores)), best=own[0] is ranking[0])
        axes.set_title(f"{title} ({len(own)})", loc="left", fontsize=10, pad=20)
    place = chart.add_axes((0.93, 1 - 1.9 / height, 0.014, 1.3 / height))
    chart.colorbar(ScalarMappable(norm, colors), cax=place, extend="max" if minimizes else "min")
    place.tick_params(labelsize=7)
    place.set_title(figure, fontsize=8)
    if minimizes:
        place.invert_yaxis()
    return chart


def _common(ranking: Sequence[Trial]) -> list[Axis]:
    """The axes that trials of all families have."""
    return [
        _axis(Column("trial", False, tuple(trial.tid for trial in ranking))),
        _axis(Column("family", False, tuple(trial.family for trial in ranking))),
        _axis(Column("seconds", False, tuple(trial.duration_s for trial in ranking))),
    ]


def _axis(column: Column) -> Axis:
    """Numbers from 0 to 1, other values below them; without numbers, the values evenly spaced."""
    texts = column.texts
    numbers = [value for value in column.values if is_number(value)]
    if not numbers:
        at = dict(
            zip(texts, np.linspace(0, 1, len(texts)) if len(texts) > 1 else [0.5], strict=True)
        )
        ticks: list[tuple[float, str]] = []
    else:
        at = {text: -STEP * (place + 1) for place, text in enumerate(texts)}
        ticks = _numbers_ticks(min(numbers), max(numbers), log=column.log)
    ticks += [(height, _truncated(text, LONGEST_VALUE)) for text, height in at.items()]
    scaled = [_scaled(numbers, value, log=column.log) if is_number(value) else at[cell(value)]
              for value in column.values]  # fmt: skip
    return Axis(column.name + (" (log)" if column.log else ""), np.array(scaled), tuple(ticks))


def _scaled(numbers: Sequence[float], value: float, *, log: bool) -> float:
    low, high = min(numbers), max(numbers)
    if low == high:
        return 0.5
    if log:
        return float(np.log(value / low) / np.log(high / low))
    return (value - low) / (high - low)


def _numbers_ticks(low: float, high: float, *, log: bool) -> list[tuple[float, str]]:
    if low == high:
        return [(0.5, shown(low))]
    whole = isinstance(low, int) and isinstance(high, int)
    locator = LogLocator(numticks=5) if log else MaxNLocator(4, integer=whole)
    inside = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    if len(inside) < 2:
        inside = [low, high]
    return [(_scaled([low, high], tick, log=log), f"{tick:.3g}") for tick in inside]


def _score_axis(
    figure: str, scores: NDArray[np.float64], ends: tuple[float, float], *, minimizes: bool
) -> Axis:
    """Better scores are higher; scores beyond the ends are drawn at the ends."""

    def height(score: float) -> float:
        up = _scaled(ends, score, log=False)
        return 1 - up if minimizes else up

    ticks = tuple(
        (1 - at if minimizes else at, text) for at, text in _numbers_ticks(*ends, log=False)
    )
    return Axis(figure, np.array([height(score) for score in np.clip(scores, *ends)]), ticks)


def _draw(axes: Any, columns: Sequence[Axis], colors: NDArray[np.float64], *, best: bool) -> None:
    """Draw worse trials first, and the best of the search on top in a colour of its own."""
    across = np.arange(len(columns))
    heights = np.stack([axis.heights for axis in columns], axis=1)
    lines = [np.column_stack([across, line]) for line in heights]
    alpha = 0.9 if len(lines) < 40 else 0.6
    axes.add_collection(
        LineCollection(lines[::-1], colors=colors[::-1], linewidths=1.2, alpha=alpha, zorder=2)
    )
    if best:
        axes.plot(across, heights[0], color=BEST, linewidth=2.2, zorder=3)
    for place, axis in enumerate(columns):
        axes.axvline(place, color=INK, linewidth=0.8, zorder=4, clip_on=False)
        for height, text in axis.ticks:
            axes.annotate(
                text,
                (place, height),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=7,
                va="center",
                zorder=5,
                bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )
    axes.set_xticks(across, [_truncated(axis.name, LONGEST_NAME) for axis in columns], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    lowest = min(0.0, *(height for axis in columns for height, _ in axis.ticks))
    axes.set(xlim=(0, len(columns) - 1), ylim=(lowest - 0.06, 1.06))


def _truncated(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
