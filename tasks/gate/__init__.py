"""The verdict on a challenger: is it good enough, and better than the champion, on fair rows?"""

from __future__ import annotations

import logging

from tasks.base.errors import ConflictError
from tasks.base.refs import DecisionRef, VersionRef
from tasks.clients import tracking
from tasks.gate.decision import Decision, Evidence, judge, markdown
from tasks.gate.measure import measure
from tasks.records import ledger, registry, resolved

log = logging.getLogger(__name__)


def gate(version: VersionRef) -> DecisionRef:
    """Judge a challenger once; record the decision in the ledger, on its run and on its version.

    A repeated call returns the recorded decision.
    """
    key = f"decision:{version.run_id}"
    recorded = ledger.find(key)
    if recorded is None:
        decision = _decide(version)
        ledger.append(
            kind="decision",
            pipeline=version.name,
            actor=_actor(version.run_id),
            from_version=decision.champion,
            to_version=version.version,
            reason=decision.reason,
            evidence=decision.model_dump(mode="json"),
            key=key,
        )
        recorded = ledger.find(key)  # another attempt may have been faster: the first row counts
        assert recorded is not None
    decision = Decision.model_validate(recorded.evidence)
    if (decision.name, decision.version) != (version.name, version.version):
        raise ConflictError(
            f"Run {version.run_id} was judged as {decision.name} version {decision.version}, "
            f"not as {version.name} version {version.version}.",
            fix="Start a new run.",
        )
    _publish(decision)
    return decision.ref(version)


def _actor(run_id: str) -> str:
    """The DAG run behind an MLflow run."""
    return str(tracking.client().get_run(run_id).data.tags.get(tracking.DAG_RUN, f"run {run_id}"))


def _publish(decision: Decision) -> None:
    """Publish what the ledger records; may be repeated."""
    text, client = markdown(decision), tracking.client()
    client.log_text(decision.run_id, decision.model_dump_json(indent=2), "decision.json")
    client.log_text(decision.run_id, text, "decision.md")
    client.set_tag(decision.run_id, tracking.VERDICT, decision.verdict)
    registry.judge(decision.name, decision.version, decision.verdict, may_promote=decision.promote)
    log.info("%s", text)


def _decide(version: VersionRef) -> Decision:
    pipeline = resolved.read(version.pipeline_uri)
    rules = pipeline.gate
    champion = registry.aliases(version.name).get(tracking.CHAMPION)
    if rules.mode == "disabled":
        evidence = Evidence(
            metric=pipeline.metric.name, obstacle="The gate is disabled: nothing was compared."
        )
    else:
        evidence = measure(version, pipeline, champion)
    verdict, reason = judge(evidence, rules.min_improvement)
    return Decision(
        **dict(evidence),
        name=version.name,
        run_id=version.run_id,
        version=version.version,
        champion=champion,
        mode=rules.mode,
        min_improvement=rules.min_improvement,
        verdict=verdict,
        reason=reason,
        promote=rules.mode != "enforce" or verdict == "promote",
        trained_on=_trained_on(version),
    )


def _trained_on(version: VersionRef) -> str:
    entry = registry.version(version.name, version.version)
    return entry.tags.get(tracking.TRAINED_ON, "") if entry is not None else ""
