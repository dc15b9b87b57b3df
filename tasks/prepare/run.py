"""The parent run of a DAG run, and whether its inputs made the champion already."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from mlflow.exceptions import MlflowException

import tasks
from tasks.base.files import sha256
from tasks.base.refs import RunRef
from tasks.base.settings import settings
from tasks.clients import store, tracking
from tasks.clients.database import locked
from tasks.pipeline.schema import Pipeline
from tasks.prepare import function, unseen
from tasks.records import ledger
from tasks.records.snapshots import Manifest

log = logging.getLogger(__name__)

SAYS_NOTHING = {"schedule", "owner", "description", "tags"}
"""Parts of a pipeline file that change no model."""
APART = ("cli", "stack")
"""Packages whose code no model depends on."""


def inputs_digest(pipeline: Pipeline, manifest: Manifest) -> str:
    """Digest of all that a version is made from: snapshot, pipeline as resolved, code."""
    body = [
        manifest.address,
        pipeline.model_dump(mode="json", exclude=SAYS_NOTHING),
        code_digest(pipeline),
    ]
    return store.digest(json.dumps(body).encode())


def code_digest(pipeline: Pipeline) -> str:
    """Digest of the code that makes a version: `tasks`, the pipeline's own Python file."""
    root = Path(tasks.__file__).parent
    paths = [
        path for path in sorted(root.rglob("*.py")) if path.relative_to(root).parts[0] not in APART
    ]
    paths.append(settings().pipelines / f"{pipeline.name}.py")
    if pipeline.data.prepare:
        paths.append(function.path_of(pipeline.data.prepare))
    digest = hashlib.sha256()
    for path in paths:
        if path.exists():
            digest.update(f"{path.name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def made(name: str, champion: int, inputs: str) -> bool:
    """Whether these inputs made the champion."""
    client = tracking.client()
    try:
        run = client.get_run(client.get_model_version(name, str(champion)).run_id or "")
    except MlflowException as err:
        if tracking.is_final(err):
            return False  # deleted by hand: nobody knows its inputs any more
        raise
    return bool(run.data.tags.get(tracking.INPUTS) == inputs)


def judged(name: str, inputs: str) -> str | None:
    """The verdict on an earlier version that these inputs made, if it led to its end.

    Trained again after a rollback, the same model would win again and undo it; after a rejection
    it would only use up the test part.
    """
    found = tracking.client().search_runs(
        [tracking.experiment(name)],
        f"tags.`{tracking.INPUTS}` = '{inputs}' and tags.`{tracking.VERDICT}` LIKE '%'",
        order_by=["start_time DESC"],
    )
    verdicts = (run.data.tags[tracking.VERDICT] for run in found if _ended(name, run.info.run_id))
    return next(verdicts, None)


def _ended(name: str, run_id: str) -> bool:
    """Whether a run's version was turned down, by gate or build, or has been champion.

    One that passed and was never promoted came too late, or its DAG run failed before.
    """
    decision = ledger.find(f"decision:{run_id}")
    if decision is None:
        return False
    version = decision.to_version
    if not decision.evidence["promote"] or ledger.find(f"build:{run_id}:{version}"):
        return True
    # Any move, for a person may have made it champion by a rollback to it, or by hand.
    return any(
        version in (move.from_version, move.to_version)
        for move in ledger.moves(name)
        if move.id > decision.id
    )


def unchanged(name: str, inputs: str) -> tuple[int, str] | None:
    """The champion's version and why it stays, when these inputs can make nothing new."""
    champion = tracking.alias_version(name, tracking.CHAMPION)
    if champion is None:
        return None
    if made(name, champion, inputs):
        return champion, f"data, pipeline file and code are those that made version {champion}"
    verdict = judged(name, inputs)
    if verdict is None:
        return None
    return champion, f"what these data, file and code make was judged before ({verdict})"


def parent(
    pipeline: Pipeline, dag_run: str, plan_uri: str, manifest: Manifest, inputs: str
) -> RunRef:
    """The one parent run of a DAG run; a second try finds what the first made.

    A DAG run that was cleared and now starts from other inputs gets a new one: trials of the old
    inputs must not be taken for its own.
    """
    client = tracking.client()
    with locked(f"prepare/{pipeline.name}"):
        found = tracking.find_run(pipeline.name, tracking.DAG_RUN, dag_run)
        if found and found.data.tags.get(tracking.INPUTS) == inputs:
            if found.info.status != "RUNNING":
                client.update_run(found.info.run_id, status="RUNNING")
            log.info("the parent run is there: %s", found.info.run_id)
            return tracking.reference(found)
        if found and found.info.status == "RUNNING":
            client.set_terminated(found.info.run_id, "KILLED")
        run = client.create_run(
            tracking.experiment(pipeline.name),
            run_name=dag_run.rpartition("/")[2],
            tags={
                tracking.DAG_RUN: dag_run,
                tracking.NAME: pipeline.name,
                tracking.SNAPSHOT: manifest.uri,
                tracking.PIPELINE: plan_uri,
                tracking.INPUTS: inputs,
                **(
                    {tracking.UNSEEN: unseen.tag(manifest)} if any(manifest.unseen.values()) else {}
                ),
            },
        )
        log.info("parent run %s", run.info.run_id)
        return tracking.reference(run)
