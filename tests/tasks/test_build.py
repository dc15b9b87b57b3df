from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.linear_model import Ridge

from tasks import build
from tasks.base.errors import RunFailedError, UserError
from tasks.base.settings import Settings
from tasks.serving.targets.process import ProcessTarget
from tests.tasks.building import assert_rejected, decision, stage
from tests.tasks.serving import examples


@pytest.fixture(autouse=True)
def stopped(servers: Settings) -> Iterator[None]:
    yield
    target = ProcessTarget()
    for deployment in target.list():
        target.stop(deployment, 0)


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
    assert_rejected(ref, "RuntimeError: the reason")


def test_a_version_with_other_predictions_than_logged_is_rejected() -> None:
    version = examples.register("build_other", Ridge(), predictions=[1.0, 2.0, 3.0])
    ref = decision("build_other", version)
    with pytest.raises(RunFailedError, match=r"must give \[1.0, 2.0, 3.0\]"):
        build.build(ref)
    assert_rejected(ref, "must give [1.0, 2.0, 3.0]")
