"""Inputs that were already judged are not trained again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sklearn.linear_model import Ridge

from tasks import build
from tasks.base.errors import ConflictError, RunFailedError
from tasks.base.refs import BuildRef
from tasks.clients import tracking
from tasks.prepare.inputs import Inputs, digest
from tasks.prepare.unchanged import unchanged
from tasks.promote import promote
from tasks.records import ledger
from tasks.records.champion import rollback
from tests.tasks import building, promotions
from tests.tasks.serving import examples

OLD, NEW, OTHER = ({"data": data} for data in ("old", "new", "other"))

pytestmark = pytest.mark.usefixtures("servers")


def judged(name: str, number: int, run_id: str, inputs: Inputs, **decided: Any) -> BuildRef:
    """Record the gate's decision on a version."""
    champion = tracking.alias_version(name, tracking.CHAMPION)
    ref = promotions.build(name, number, champion, run_id=run_id, **decided)
    ledger.append(
        kind="decision",
        pipeline=name,
        actor="a DAG run",
        from_version=champion,
        to_version=number,
        reason=ref.reason,
        evidence={"verdict": ref.verdict, "promote": ref.promote},
        key=f"decision:{run_id}",
    )
    client = tracking.client()
    client.set_tag(run_id, tracking.INPUTS, digest(inputs))
    client.set_tag(run_id, tracking.VERDICT, ref.verdict)
    return ref


def version(name: str, inputs: Inputs, **decided: Any) -> BuildRef:
    """A judged version made from these inputs; by default it may be promoted."""
    client = tracking.client()
    made = client.create_run(tracking.experiment(name)).info
    source = f"{made.artifact_uri}/model"
    entry = client.create_model_version(name, source=source, run_id=made.run_id)
    return judged(name, int(entry.version), made.run_id, inputs, **decided)


@pytest.fixture
def name() -> str:
    fresh = f"judged_{uuid4().hex[:8]}"
    tracking.client().create_registered_model(fresh)
    return fresh


def test_a_rollback_is_not_undone_by_the_next_run_on_the_same_inputs(name: str) -> None:
    promote(version(name, OLD), "setup")
    promote(version(name, NEW), "setup")
    rollback(name, None, "it is worse", "a person")
    champion, reason = unchanged(name, NEW) or (None, "")
    assert champion == 1
    assert "already judged (promote)" in reason


def test_a_version_that_passed_but_came_too_late_is_trained_again(name: str) -> None:
    promote(version(name, OLD), "setup")
    late = version(name, NEW)
    promote(version(name, OTHER), "setup")
    with pytest.raises(ConflictError, match="was refused"):
        promote(late, "setup")
    assert unchanged(name, NEW) is None


@pytest.mark.parametrize("verdict", ["promote", "inconclusive"])  # the latter in the mode dry_run
def test_a_version_that_passed_but_was_never_promoted_is_trained_again(
    name: str, verdict: str
) -> None:
    promote(version(name, OLD), "setup")
    version(name, NEW, verdict=verdict)
    assert unchanged(name, NEW) is None


def test_inputs_that_were_promoted_once_stay_judged_after_a_later_version(name: str) -> None:
    promote(version(name, OLD), "setup")
    promote(version(name, NEW), "setup")
    rollback(name, None, "it is worse", "a person")
    version(name, NEW)
    assert unchanged(name, NEW) is not None


def test_inputs_that_the_gate_rejected_are_not_trained_again(name: str) -> None:
    promote(version(name, OLD), "setup")
    version(name, NEW, verdict="inconclusive", promote=False)
    champion, reason = unchanged(name, NEW) or (None, "")
    assert champion == 1
    assert "already judged (inconclusive)" in reason


def test_inputs_that_the_build_rejected_are_not_trained_again() -> None:
    name = f"judged_{uuid4().hex[:8]}"
    number, run_id = examples.register(name, Ridge(), predictions=[1.0, 2.0, 3.0])
    promote(version(name, OLD), "setup")
    judged(name, number, run_id, NEW)
    with pytest.raises(RunFailedError, match="must give"):
        build.build(building.decision(name, (number, run_id)))
    champion, reason = unchanged(name, NEW) or (None, "")
    assert champion == 2
    assert "already judged (reject)" in reason


def test_without_a_champion_the_same_inputs_are_tried_again(name: str) -> None:
    version(name, NEW, verdict="reject", promote=False)
    assert unchanged(name, NEW) is None


def test_other_inputs_are_trained(name: str) -> None:
    promote(version(name, OLD), "setup")
    assert unchanged(name, NEW) is None
    assert unchanged(name, OLD) == (
        1,
        "version 1 was made from the same data, pipeline file and code",
    )
