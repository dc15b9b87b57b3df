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
    """The slots to search, or none with the version that these inputs made already."""

    slots: tuple[SlotRef, ...]
    unchanged: int | None = None
    """The champion's version, when snapshot, file and code can make nothing new."""
    reason: str = ""


def prepare(
    name: str, dag_run: str, overrides: Overrides, lookup: Lookup = airflow_connection
) -> Prepared:
    """Make or find the snapshot and the parent run of a DAG run.

    `lookup` finds the Airflow connections that sources name.

    Raises:
        UserError: the file, the data or the overrides are wrong; nothing was made but a report.
        UnavailableError: a source or a server did not answer, and the store has no copy.
    """
    # Not at the top: whoever only reads a snapshot would pay for pandera and the fetchers.
    from tasks.models import fitting
    from tasks.pipeline.load import load
    from tasks.pipeline.overrides import resolve
    from tasks.prepare import make, run, unseen
    from tasks.records import resolved, snapshots

    pipeline = resolve(load(name), overrides)
    fitting.check(pipeline)
    for column in pipeline.left_out:
        kind = pipeline.data.columns[column].type
        log.info(
            "The column %r is of type %s: it is no feature, the model gets none of it.",
            column,
            kind,
        )
    plan_uri = resolved.write(pipeline)
    manifest = (
        snapshots.chosen(pipeline, overrides.snapshot)
        if overrides.snapshot
        else make.made(pipeline, lookup)
    )
    unseen.warn(manifest)
    inputs = run.inputs_digest(pipeline, manifest)
    kept = None if overrides.force else run.unchanged(name, inputs)
    if kept is not None:
        champion, reason = kept
        log.info("unchanged: version %d stays champion: %s", champion, reason)
        return Prepared(slots=(), unchanged=champion, reason=reason)
    reference = run.parent(pipeline, dag_run, plan_uri, manifest, inputs)
    return Prepared(slots=slots(reference, pipeline))


def slots(run: RunRef, pipeline: Pipeline) -> tuple[SlotRef, ...]:
    """The slots of a run's search."""
    number = min(pipeline.search.slots, pipeline.search.trials)
    return tuple(SlotRef(**run.model_dump(), slot=slot) for slot in range(number))
