"""The points that a search begins with: the file's, the champion's, each family's defaults."""

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
    """All points of the file; the others as far as the start-up trials go, each only once."""
    points = list(asker.given)
    if pipeline.search.algorithm != "grid":
        for vals in _suggested(pipeline, asker, defaults):
            if len(points) >= asker.start_up:
                break
            if vals not in points:
                points.append(vals)
    return [point(asker.node, tid, vals) for tid, vals in enumerate(points[: asker.total])]


def point(node: space.Node, tid: int, vals: Vals) -> Point:
    """A point as the table keeps it."""
    return Point(tid, vals, space.flatten(space.evaluate(node, vals)))


def _suggested(pipeline: Pipeline, asker: Asker, defaults: list[dict[str, Any]]) -> Iterator[Vals]:
    """Lazily: MLflow need not be asked for a champion that would not be tried."""
    if len(asker.given) >= asker.start_up:
        return
    for params in (champion(pipeline.name), *defaults):
        if params is not None:
            try:
                yield space.to_vals(asker.node, params)
            except space.NoMatch as err:
                log.info("not tried first, as it is outside the space: %s (%s)", params, err)


def champion(name: str) -> dict[str, Any] | None:
    """The parameters of the champion's trial, if there is one and MLflow answers."""
    try:
        version = tracking.alias_version(name, tracking.CHAMPION)
        if version is None:
            return None
        run_id = tracking.client().get_model_version(name, str(version)).run_id
        best = tracking.client().get_run(str(run_id)).data.tags.get(tracking.BEST)
    except MlflowException as err:
        log.warning("the champion's parameters are not tried first: %s", err)
        return None
    params: dict[str, Any] | None = json.loads(best)["params"] if best else None
    return params
