"""The parent run of a DAG run."""

from __future__ import annotations

import logging

from tasks.base.refs import RunRef
from tasks.clients import tracking
from tasks.clients.database import locked
from tasks.pipeline.schema import Pipeline
from tasks.prepare import unseen
from tasks.prepare.inputs import ARTIFACT, Inputs, digest
from tasks.records.snapshots import Manifest

log = logging.getLogger(__name__)


def open_run(
    pipeline: Pipeline, dag_run: str, plan_uri: str, manifest: Manifest, inputs: Inputs
) -> RunRef:
    """The one parent run of a DAG run; a second try continues the run of the first.

    A cleared DAG run whose inputs have changed gets a new parent run: it must not use trials on the
    old inputs.
    """
    client = tracking.client()
    with locked(f"prepare/{pipeline.name}"):
        run = tracking.find_run(pipeline.name, tracking.DAG_RUN, dag_run)
        if run and run.data.tags.get(tracking.INPUTS) == digest(inputs):
            if run.info.status != "RUNNING":
                client.update_run(run.info.run_id, status="RUNNING")
            log.info("Continuing the parent run %s.", run.info.run_id)
        else:
            if run and run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, "KILLED")
            tags = {
                tracking.DAG_RUN: dag_run,
                tracking.NAME: pipeline.name,
                tracking.SNAPSHOT: manifest.uri,
                tracking.PIPELINE: plan_uri,
                tracking.INPUTS: digest(inputs),
            }
            if any(manifest.unseen.values()):
                tags[tracking.UNSEEN] = unseen.tag(manifest)
            run = client.create_run(
                tracking.experiment(pipeline.name),
                run_name=dag_run.rpartition("/")[2],
                tags=tags,
            )
            log.info("Started the parent run %s.", run.info.run_id)
        client.log_dict(run.info.run_id, inputs, ARTIFACT)
        return tracking.reference(run)
