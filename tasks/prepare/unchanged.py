"""Whether training again could make anything new."""

from __future__ import annotations

import logging

from mlflow.entities import Run

from tasks.clients import tracking
from tasks.prepare import inputs
from tasks.prepare.inputs import Inputs, changes, digest
from tasks.records import ledger

log = logging.getLogger(__name__)


def unchanged(name: str, current: Inputs) -> tuple[int, str] | None:
    """The champion's version and why it stays, if these inputs can make nothing new.

    Otherwise the log says which inputs have changed since the champion was made.
    """
    champion = tracking.alias_version(name, tracking.CHAMPION)
    if champion is None:
        return None
    run = _run_of(name, champion)
    if run is not None and run.data.tags.get(tracking.INPUTS) == digest(current):
        return champion, f"version {champion} was made from the same data, pipeline file and code"
    verdict = _earlier_verdict(name, current)
    if verdict is not None:
        return champion, (
            "a version made from the same data, pipeline file and code was already judged "
            f"({verdict})"
        )
    earlier = inputs.read(run) if run is not None else None
    if earlier is None:
        log.info("The inputs of version %d are not known; training again.", champion)
    else:
        log.info("Changed since version %d: %s.", champion, changes(current, earlier))
    return None


def _run_of(name: str, version: int) -> Run | None:
    """The run that made a version; None if a person deleted either."""
    client = tracking.client()
    entry = tracking.existing(client.get_model_version, name, str(version))
    return tracking.existing(client.get_run, entry.run_id or "") if entry else None


def _earlier_verdict(name: str, current: Inputs) -> str | None:
    """The verdict on an earlier version made from these inputs, if it was final.

    After a rollback, the same model trained again would win again and undo the rollback; after a
    rejection, it would only use up the test part.
    """
    runs = tracking.client().search_runs(
        [tracking.experiment(name)],
        f"tags.`{tracking.INPUTS}` = '{digest(current)}' and tags.`{tracking.VERDICT}` LIKE '%'",
        order_by=["start_time DESC"],
    )
    verdicts = (run.data.tags[tracking.VERDICT] for run in runs if _is_final(name, run.info.run_id))
    return next(verdicts, None)


def _is_final(name: str, run_id: str) -> bool:
    """Whether a run's version was turned down by gate or build, or has been champion.

    A version that passed but was never promoted came too late, or its DAG run failed first.
    """
    decision = ledger.find(f"decision:{run_id}")
    if decision is None:
        return False
    version = decision.to_version
    if not decision.evidence["promote"] or ledger.find(f"build:{run_id}:{version}"):
        return True
    # Any move counts: a person may have made it champion by a rollback or by hand.
    return any(
        version in (move.from_version, move.to_version)
        for move in ledger.moves(name)
        if move.id > decision.id
    )
