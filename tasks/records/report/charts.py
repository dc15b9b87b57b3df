"""The plots of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.pipeline.schema import Metric
from tasks.records.report.columns import families
from tasks.records.trials.table import Trial, ranked

BLUE, PALE, GREY, RED, INK = "#1f6fb2", "#9db4c8", "#999999", "#c0392b", "#2b2b2b"
PALETTE = (
    *("#1f6fb2", "#e08a1e", "#2f9e6e", "#b0569f", "#8a6d3b", "#d1495b", "#5b7fa6", "#6a994e"),
)

MOST_CURVES = 5
"""Trials whose curves are shown."""


def best_of_families(ranking: Sequence[Trial], figure: str) -> Figure:
    """A bar for the best trial of each family, the best family on top."""
    best = [trials[0] for trials in families(ranking).values()][::-1]
    chart = Figure(figsize=(9, 1.2 + 0.45 * len(best)), layout="constrained")
    axes = chart.subplots()
    colors = [PALE] * (len(best) - 1) + [BLUE]
    bars = axes.barh([t.family for t in best], [t.score for t in best], color=colors)
    axes.bar_label(bars, fmt="%.4g", padding=4)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("Best trial of each family", loc="left")
    axes.set_xlabel(figure)
    return chart


def curves(ranking: Sequence[Trial]) -> Figure | None:
    """Curves of the best trials that have some, over the epochs; one panel per kind of loss."""
    best = [trial for trial in ranking if trial.curves][:MOST_CURVES]
    if not best:
        return None
    names = list(best[0].curves)
    kinds = [name for name in names if name.endswith("_loss")] or names
    chart = Figure(figsize=(4.5 * len(kinds), 3.6), layout="constrained")
    panels = chart.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        for place, trial in enumerate(best):
            figures = trial.curves.get(kind, [])
            color = PALETTE[place % len(PALETTE)]
            epochs = range(1, len(figures) + 1)
            axes.plot(epochs, figures, linewidth=1.2, color=color, label=f"trial {trial.tid}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(kind, loc="left")
        axes.set_xlabel("epoch")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].legend(frameon=False, title="best first")
    return chart


def score_over_trials(recorded: Sequence[Trial], metric: Metric) -> Figure:
    """Each trial's figure and the best so far; failed and killed trials along the bottom."""
    chart = Figure(figsize=(9, 4.4), layout="constrained")
    axes = chart.subplots()
    finished = [trial for trial in recorded if trial.loss is not None]
    minimizes = metric.direction == "minimize"
    low, high = shown_range([trial.score for trial in finished], minimizes=minimizes)
    _best_so_far(axes, finished, recorded[-1].tid)
    for place, family in enumerate(families(ranked(finished))):
        own = [trial for trial in finished if trial.family == family]
        scores = np.array([trial.score for trial in own])
        inside = (scores >= low) & (scores <= high)
        tids, color = np.array([trial.tid for trial in own]), PALETTE[place % len(PALETTE)]
        axes.scatter(tids[inside], scores[inside], s=26, color=color, label=family, zorder=3)
        axes.scatter(
            tids[~inside],
            np.clip(scores[~inside], low, high),
            s=30,
            marker="^" if minimizes else "v",
            facecolors="none",
            edgecolors=color,
            zorder=3,
        )
    for outcome, marker in (("failed", "x"), ("killed", "s")):
        lost = [trial.tid for trial in recorded if trial.outcome == outcome]
        if lost:
            axes.plot(
                lost,
                [0.025] * len(lost),
                marker,
                markersize=5,
                color=RED,
                label=f"{outcome} ({len(lost)})",
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
    beyond = sum(not low <= trial.score <= high for trial in finished)
    margin = 0.07 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    last = max(recorded[-1].tid, 1)
    axes.set_xlim(-0.03 * last, 1.03 * last)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee", zorder=0)
    axes.set_title("Score over trials", loc="left")
    axes.set_xlabel("trial" + (f" ({beyond} beyond the axis, at its edge)" if beyond else ""))
    axes.set_ylabel(f"val_{metric.name}, {'lower' if minimizes else 'higher'} is better")
    chart.legend(loc="outside right upper", frameon=False)
    return chart


def _best_so_far(axes: Any, finished: Sequence[Trial], last: int) -> None:
    best: list[Trial] = []
    for trial in finished:
        if not best or (trial.loss or 0.0) < (best[-1].loss or 0.0):
            best.append(trial)
    tids = [*(trial.tid for trial in best), max(last, best[-1].tid)]
    scores = [*(trial.score for trial in best), best[-1].score]
    axes.step(tids, scores, where="post", color=INK, linewidth=1.4, label="best so far", zorder=2)


def shown_range(
    scores: Sequence[float], *, minimizes: bool, most: float = 0.9
) -> tuple[float, float]:
    """The range of a scale of scores: a few outliers must not squeeze the others.

    It reaches a little beyond the best share `most` of them, and to both sides of a single score.
    """
    ordered = np.sort(scores) if minimizes else np.sort(scores)[::-1]
    best, common, worst = ordered[0], ordered[int(most * (len(ordered) - 1))], ordered[-1]
    limit = best + 1.6 * (common - best)
    if common == best or abs(worst - best) <= abs(limit - best):
        limit = worst
    if limit == best:
        spread = 0.01 * abs(best) or 0.01
        return float(best - spread), float(best + spread)
    return float(min(best, limit)), float(max(best, limit))
