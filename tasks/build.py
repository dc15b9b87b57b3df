"""Build: a version that passed the gate gets a running server, which must pass the smoke test."""

from __future__ import annotations

import logging

from tasks import deploy, ledger, registry, tracking
from tasks.errors import RunFailedError, UserError
from tasks.refs import BuildRef, DecisionRef
from tasks.serving import models, smoke
from tasks.serving.process import ProcessTarget
from tasks.serving.targets import Target

log = logging.getLogger(__name__)

LOG_FILE = "build/server.log"
"""Artifact of the parent run: why a version was rejected, and what its server wrote."""


def build(decision: DecisionRef) -> BuildRef:
    """Start the version's server and test it; a repeated call finds the server running.

    Raises:
        RunFailedError: The server does not start or fails the smoke test; the version is rejected.
    """
    if not decision.promote:
        raise UserError(
            f"{decision.name} version {decision.version} cannot be built.",
            why=f"The gate did not let it pass: {decision.reason}",
        )
    target: Target = ProcessTarget()
    serving = deploy.serving_of(decision.name, decision.version)
    with deploy.lock(decision.name):
        # Staging before the server starts, so that no reconciliation takes it for a stray.
        registry.judge(decision.name, decision.version, decision.verdict, may_promote=True)
        deployment = target.start(decision.name, decision.version)
        try:
            target.wait_ready(deployment, serving.start_timeout)
            smoke.check(deployment, models.fetch(decision.name, decision.version))
        except RunFailedError as err:
            if tracking.alias_version(decision.name, tracking.CHAMPION) != decision.version:
                _reject(decision, err, target)
                target.stop(deployment, drain_timeout=0)
            raise
    log.info("%s version %d runs on %s", decision.name, decision.version, deployment.address)
    return BuildRef(**decision.model_dump(), address=deployment.address)


def _reject(decision: DecisionRef, err: RunFailedError, target: Target) -> None:
    """Keep the server's log with the run, and turn the version down."""
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
