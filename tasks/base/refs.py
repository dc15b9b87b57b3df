"""The small JSON references that tasks pass on: URIs, run ids, versions; never data."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["promote", "reject", "inconclusive"]


class Ref(BaseModel):
    """A frozen reference; `model_dump(mode="json")` is what Airflow stores."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunRef(Ref):
    """A DAG run: its parent MLflow run, its resolved pipeline, and its snapshot."""

    name: str
    run_id: str
    pipeline_uri: str
    """The resolved pipeline (JSON), named by its digest."""
    snapshot_uri: str
    """The snapshot's manifest."""


class SlotRef(RunRef):
    """A slot of a search."""

    slot: int

    @property
    def run(self) -> RunRef:
        """The run that this slot belongs to."""
        return RunRef(**self.model_dump(exclude={"slot"}))


class BestRef(RunRef):
    """The trial that `select` chose."""

    trial: int
    trial_run_id: str | None
    """The trial's child run; None if MLflow refused to make it."""


class VersionRef(RunRef):
    """A registered model version."""

    version: int


class DecisionRef(VersionRef):
    """The gate's verdict on a version against `champion` (`None` for the first version)."""

    verdict: Verdict
    promote: bool
    """Whether to promote under the gate's mode: `dry_run` and `disabled` ignore the verdict."""
    champion: int | None
    reason: str


class BuildRef(DecisionRef):
    """A version whose servers started and passed the smoke test."""

    addresses: tuple[str, ...]
    """host:port of each server."""
