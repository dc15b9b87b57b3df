"""The points that a search starts with: the file's, the champion's, each family's defaults."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from mlflow.exceptions import MlflowException

from tasks.clients import tracking
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline
from tasks.search.ask import Asker
from tasks.search.table import Point, Vals

log = logging.getLogger(__name__)


def first_points(pipeline: Pipeline, asker: Asker, defaults: list[dict[str, Any]]) -> list[Point]:
    """All points of the file, then others up to the number of start-up trials, without repeats."""
    points = list(asker.given)
    if pipeline.search.algorithm != "grid":
        for vals in _suggested(pipeline, asker, defaults):
            if len(points) >= asker.start_up:
                break
            if vals not in points:
                points.append(vals)
    return [point(asker.node, tid, vals) for tid, vals in enumerate(points[: asker.total])]


def point(node: space.Node, tid: int, vals: Vals) -> Point:
    """A point as the table stores it."""
    return Point(tid, vals, space.flatten(space.evaluate(node, vals)))


def _suggested(pipeline: Pipeline, asker: Asker, defaults: list[dict[str, Any]]) -> Iterator[Vals]:
    """Points beyond the file's, lazily: MLflow is only asked for a champion that can be tried."""
    if len(asker.given) >= asker.start_up:
        return
    for params in (champion(pipeline.name), *defaults):
        if params is not None:
            try:
                yield space.to_vals(asker.node, params)
            except space.NoMatch as err:
                log.info("skipping a first point outside the space: %s (%s)", params, err)


def champion(name: str) -> dict[str, Any] | None:
    """The parameters of the champion's trial, if it has one and MLflow answers."""
    try:
        version = tracking.alias_version(name, tracking.CHAMPION)
        if version is None:
            return None
        run_id = tracking.client().get_model_version(name, str(version)).run_id
        best = tracking.client().get_run(str(run_id)).data.tags.get(tracking.BEST)
    except MlflowException as err:
        log.warning("cannot read the champion's parameters: %s", err)
        return None
    params: dict[str, Any] | None = json.loads(best)["params"] if best else None
    return params
