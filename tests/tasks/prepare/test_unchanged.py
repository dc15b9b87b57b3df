"""Inputs that were judged already are not trained again behind a person's back."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tasks import tracking
from tasks.prepare import run

pytestmark = pytest.mark.usefixtures("servers")


def version(name: str, inputs: str, verdict: str) -> int:
    """A version whose run was judged."""
    client = tracking.client()
    made = client.create_run(
        tracking.experiment(name), tags={tracking.INPUTS: inputs, tracking.VERDICT: verdict}
    )
    return int(
        client.create_model_version(
            name, source=f"{made.info.artifact_uri}/model", run_id=made.info.run_id
        ).version
    )


@pytest.fixture
def name() -> str:
    fresh = f"judged_{uuid4().hex[:8]}"
    tracking.client().create_registered_model(fresh)
    return fresh


def test_a_rollback_is_not_undone_by_the_next_run_on_the_same_inputs(name: str) -> None:
    first = version(name, "old inputs", "promote")
    version(name, "new inputs", "promote")
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, str(first))
    champion, reason = run.unchanged(name, "new inputs") or (None, "")
    assert champion == first
    assert "judged before (promote)" in reason


def test_without_a_champion_the_same_inputs_are_tried_again(name: str) -> None:
    version(name, "inputs", "reject")
    assert run.unchanged(name, "inputs") is None


def test_other_inputs_are_trained(name: str) -> None:
    first = version(name, "old inputs", "promote")
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, str(first))
    assert run.unchanged(name, "new inputs") is None
    assert run.unchanged(name, "old inputs") == (
        first,
        f"data, pipeline file and code are those that made version {first}",
    )
