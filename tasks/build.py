"""Build: a version that passed the gate gets its image and a server, which must pass the tests."""

from __future__ import annotations

import logging
import time

from tasks.base.errors import RunFailedError, UserError
from tasks.base.refs import BuildRef, DecisionRef
from tasks.clients import tracking
from tasks.pipeline.schema import Serving
from tasks.records import ledger, registry
from tasks.serving import deployments, model_files, smoke
from tasks.serving.targets.available import target_for
from tasks.serving.targets.deployment import Deployment, Target

log = logging.getLogger(__name__)

LOG_FILE = "build/server.log"
"""Artifact of the parent run: why a version was rejected, and the log of its server."""


def build(decision: DecisionRef) -> BuildRef:
    """Build the version, start its server and test it; a repeated call adopts the running server.

    Raises:
        RunFailedError: It cannot be built, its server does not start or fails the smoke test. The
            version is rejected.
        UserError: It cannot run as the file asks: the engine has less memory, for example. The
            version waits: clear the task once that is corrected.
    """
    if not decision.promote:
        raise UserError(
            f"{decision.name} version {decision.version} cannot be built.",
            why=f"The gate did not pass it: {decision.reason}",
        )
    serving = deployments.serving_of(decision.name, decision.version)
    target = target_for(serving)
    with deployments.lock(decision.name):
        # Staging before its server starts, or a reconciliation would stop a server without a use.
        registry.judge(decision.name, decision.version, decision.verdict, may_promote=True)
        try:
            deployment = _build_and_test(decision, target, serving)
        except (RunFailedError, UserError) as err:
            if tracking.alias_version(decision.name, tracking.CHAMPION) != decision.version:
                if isinstance(err, RunFailedError):  # otherwise the file or a setting is at fault
                    _reject(decision, err, target)
                for server in target.list(decision.name):
                    if server.version == decision.version:
                        target.stop(server, drain_timeout=0)
            raise
    log.info("%s version %d runs on %s", decision.name, decision.version, deployment.addresses)
    return BuildRef(**decision.model_dump(), addresses=deployment.addresses)


def _build_and_test(decision: DecisionRef, target: Target, serving: Serving) -> Deployment:
    """The run keeps the image's name, the server's memory and its start-up time."""
    name, version = decision.name, decision.version
    tags = target.build(name, version, serving)
    began = time.monotonic()
    deployment = target.start(name, version, serving)
    target.wait_ready(deployment, serving.start_timeout)
    took = time.monotonic() - began
    smoke.check(deployment, model_files.fetch(name, version))
    client = tracking.client()
    for key, text in tags.items():
        client.set_tag(decision.run_id, f"serving.{key}", text)
    client.log_metric(decision.run_id, "serving_memory_mb", target.memory(deployment) / 1e6)
    if deployment.state == "starting":  # not one that an interrupted call had started
        client.log_metric(decision.run_id, "serving_start_s", took)
    return deployment


def _reject(decision: DecisionRef, err: RunFailedError, target: Target) -> None:
    """Keep the server's log with the run, and reject the version."""
    text = target.logs_tail(decision.name, decision.version, lines=500)
    tracking.client().log_text(decision.run_id, f"{err}\n\n{text}\n", LOG_FILE)
    tracking.client().set_tag(decision.run_id, tracking.VERDICT, "reject")
    ledger.append(
        kind="decision",
        pipeline=decision.name,
        actor="build",
        from_version=decision.champion,
        to_version=decision.version,
        reason=err.what,
        evidence={"verdict": "reject", "why": err.why[-4000:]},
        key=f"build:{decision.run_id}:{decision.version}",
    )
    registry.reject(decision)
