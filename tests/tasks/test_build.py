from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from sklearn.linear_model import Ridge

from tasks import build, ledger, registry, tracking
from tasks.errors import RunFailedError, UserError
from tasks.refs import DecisionRef
from tasks.serving.process import ProcessTarget
from tasks.settings import Settings
from tests.tasks.serving import examples


@pytest.fixture(autouse=True)
def stopped(servers: Settings) -> Iterator[None]:
    yield
    target = ProcessTarget()
    for deployment in target.list():
        target.stop(deployment, 0)


def decision(name: str, version: tuple[int, str], *, passed: bool = True) -> DecisionRef:
    number, run_id = version
    tracking.client().set_registered_model_alias(name, tracking.CHALLENGER, str(number))
    return DecisionRef(
        name=name,
        run_id=run_id,
        pipeline="s3://data/pipeline",
        snapshot="s3://data/snapshot",
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


def test_a_good_version_gets_a_server() -> None:
    ref = decision("build_good", examples.register("build_good", Ridge()))
    built = build.build(ref)
    assert built.model_dump(exclude={"addresses"}) == ref.model_dump()
    assert stage(ref.name, ref.version) == "Staging"
    server = ProcessTarget().list(ref.name)[0]
    assert server.addresses == built.addresses
    assert server.answers()
    assert build.build(ref) == built


def test_a_version_that_did_not_pass_gets_none(servers: Settings) -> None:
    with pytest.raises(UserError, match="cannot be built"):
        build.build(decision("build_good", examples.register("build_good", Ridge()), passed=False))
    assert ProcessTarget().list() == []


def test_a_version_whose_server_ends_is_rejected(tmp_path: Path) -> None:
    ref = decision("build_broken", examples.register_broken("build_broken", tmp_path))
    with pytest.raises(RunFailedError, match="ended before it answered") as raised:
        build.build(ref)
    assert "RuntimeError: the reason" in raised.value.why
    rejected(ref, "RuntimeError: the reason")


def test_a_version_with_other_predictions_than_logged_is_rejected() -> None:
    version = examples.register("build_other", Ridge(), predictions=[1.0, 2.0, 3.0])
    ref = decision("build_other", version)
    with pytest.raises(RunFailedError, match=r"must give \[1.0, 2.0, 3.0\]"):
        build.build(ref)
    rejected(ref, "must give [1.0, 2.0, 3.0]")


def rejected(ref: DecisionRef, reason: str) -> None:
    """The server is gone; registry, run and ledger say why."""
    assert ProcessTarget().list(ref.name) == []
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
