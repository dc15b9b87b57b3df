"""From a pipeline's sources to an immutable snapshot and the parent run of a DAG run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tasks.base.refs import Ref, RunRef, SlotRef
from tasks.base.settings import airflow_connection

if TYPE_CHECKING:
    from tasks.clients.connections import Lookup
    from tasks.pipeline.overrides import Overrides
    from tasks.pipeline.schema import Pipeline

log = logging.getLogger(__name__)


class Prepared(Ref):
    """The slots to search; none if training again could make nothing new."""

    slots: tuple[SlotRef, ...]
    unchanged: int | None = None
    """The version that stays champion because nothing has changed."""
    reason: str = ""


def prepare(
    name: str, dag_run: str, overrides: Overrides, lookup: Lookup = airflow_connection
) -> Prepared:
    """Make or find the snapshot and the parent run of a DAG run.

    `lookup` finds the Airflow connections that sources name.

    Raises:
        UserError: The file, the data or the overrides are wrong. At most a report was written.
        UnavailableError: A source or a server did not answer, and the store has no copy.
    """
    # Not at the top: callers that only read a snapshot would import pandera and the fetchers.
    from tasks.models import parameters
    from tasks.pipeline.load import load
    from tasks.pipeline.overrides import resolve
    from tasks.prepare import inputs, make, parent_run, unseen
    from tasks.prepare.unchanged import unchanged
    from tasks.records import resolved, snapshots

    pipeline = resolve(load(name), overrides)
    parameters.check_space(pipeline)
    for column in pipeline.left_out:
        kind = pipeline.data.columns[column].type
        log.info("The column %r is of type %s: the model does not use it.", column, kind)
    plan_uri = resolved.write(pipeline)
    if overrides.snapshot:
        manifest = snapshots.matching_manifest(pipeline, overrides.snapshot)
    else:
        manifest = make.make_snapshot(pipeline, lookup)
    unseen.warn(manifest)
    current = inputs.collect(pipeline, manifest)
    kept = None if overrides.force else unchanged(name, current)
    if kept is not None:
        champion, reason = kept
        log.info("Unchanged: version %d stays champion: %s.", champion, reason)
        return Prepared(slots=(), unchanged=champion, reason=reason)
    run = parent_run.open_run(pipeline, dag_run, plan_uri, manifest, current)
    return Prepared(slots=slots(run, pipeline))


def slots(run: RunRef, pipeline: Pipeline) -> tuple[SlotRef, ...]:
    """The slots of a run's search."""
    count = min(pipeline.search.slots, pipeline.search.trials)
    return tuple(SlotRef(**run.model_dump(), slot=slot) for slot in range(count))
