"""Models with versions to promote, in real MLflow and PostgreSQL. The versions have no files."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tasks import promote
from tasks.base.refs import BuildRef
from tasks.clients import tracking
from tasks.records import ledger, registry


def made() -> str:
    """A model with five versions, the first of which was promoted."""
    name = f"promote_{uuid4().hex[:8]}"
    client = tracking.client()
    client.create_registered_model(name)
    run = client.create_run(tracking.experiment(name))
    passed = {tracking.VERDICT: "promote", registry.PASSED: "true", tracking.STAGE: "Archived"}
    for _ in range(5):
        client.create_model_version(
            name, f"{run.info.artifact_uri}/model", run.info.run_id, tags=passed
        )
    promote.promote(build(name, 1, None), "setup")
    return name


def build(name: str, version: int, champion: int | None, **fields: Any) -> BuildRef:
    defaults = {
        "name": name,
        "run_id": f"{name}/{version}",
        "pipeline_uri": "p",
        "snapshot_uri": "s",
        "version": version,
        "verdict": "promote",
        "promote": True,
        "champion": champion,
        "reason": "it is better",
        "addresses": ("127.0.0.1:1",),
    }
    return BuildRef(**defaults | fields)


def challenge(name: str, version: int) -> None:
    tracking.client().set_registered_model_alias(name, tracking.CHALLENGER, str(version))


def kinds(name: str) -> list[str]:
    """The ledger after the set-up, oldest first: kind and the versions."""
    entries = reversed(ledger.history(name)[:-2])
    return [f"{e.kind} {e.from_version}>{e.to_version}" for e in entries]


def production(name: str) -> list[int]:
    versions = registry.versions(name).items()
    return [number for number, v in versions if v.tags.get(tracking.STAGE) == "Production"]
