"""Decisions for `build`, and what remains of a version that it rejected."""

from __future__ import annotations

import mlflow

from tasks import build
from tasks.base.refs import DecisionRef
from tasks.clients import tracking
from tasks.pipeline.schema import Serving
from tasks.records import ledger, registry
from tasks.serving.targets.available import target_for


def decision(name: str, version: tuple[int, str], *, passed: bool = True) -> DecisionRef:
    number, run_id = version
    tracking.client().set_registered_model_alias(name, tracking.CHALLENGER, str(number))
    return DecisionRef(
        name=name,
        run_id=run_id,
        pipeline_uri="s3://data/pipeline",
        snapshot_uri="s3://data/snapshot",
        version=number,
        verdict="promote" if passed else "reject",
        promote=passed,
        champion=None,
        reason="the reason",
    )


def stage(name: str, version: int) -> str:
    entry = registry.version(name, version)
    assert entry is not None
    return str(entry.tags[tracking.STAGE])


def assert_rejected(ref: DecisionRef, reason: str) -> None:
    """The server is gone; registry, run and ledger say why."""
    assert target_for(Serving()).list(ref.name) == []
    assert stage(ref.name, ref.version) == "Archived"
    entry = registry.version(ref.name, ref.version)
    assert entry is not None
    assert registry.rejected(entry)
    assert tracking.client().get_run(ref.run_id).data.tags[tracking.VERDICT] == "reject"
    assert reason in mlflow.artifacts.load_text(f"runs:/{ref.run_id}/{build.LOG_FILE}")
    newest = ledger.history(ref.name)[0]
    assert (newest.kind, newest.to_version, newest.evidence["verdict"]) == (
        *("decision", ref.version),
        "reject",
    )
    assert reason in newest.evidence["why"]
