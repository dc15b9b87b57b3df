"""The hyperparameter search. Importing it imports no ML library; its functions do."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.base.refs import SlotRef

log = logging.getLogger(__name__)


def search(slot: SlotRef) -> dict[str, Any]:
    """Run trials of the search until each has an outcome; returns a small summary.

    Call it from the main thread. It can be called again, and at the same time for other slots.

    Raises:
        UserError: The pipeline does not fit its snapshot.
        UnavailableError: A server was away for minutes.
    """
    from tasks.base import memory, process
    from tasks.records import resolved
    from tasks.records.trials.progress import untried
    from tasks.search.limits import trial_memory
    from tasks.search.trial_process import Setup
    from tasks.search.worker import Worker

    pipeline = resolved.read(slot.pipeline_uri)
    threads = max(1, process.cores() // pipeline.search.slots)
    limit = trial_memory(pipeline.search)
    if cut := untried(pipeline):
        log.warning("%s", cut)
    log.info("a trial may use %d threads and %s of memory", threads, memory.text(limit))
    worker = Worker(Setup(pipeline.model_dump(mode="json"), slot.snapshot_uri, threads), limit)
    worker.start()  # it loads for seconds; meanwhile this process imports hyperopt
    try:
        from tasks.search.slot import Slot

        return Slot(slot, pipeline, worker).run()
    finally:
        worker.stop()
