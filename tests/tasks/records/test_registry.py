from __future__ import annotations

from uuid import uuid4

import pytest

from tasks.base.refs import VersionRef
from tasks.base.settings import Settings
from tasks.clients import tracking
from tasks.records import registry


@pytest.fixture
def name(servers: Settings) -> str:
    """A registered model with three versions; they have no files."""
    name = f"registry_{uuid4().hex[:8]}"
    client = tracking.client()
    client.create_registered_model(name)
    run = client.create_run(tracking.experiment(name))
    for _ in range(3):
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    return name


def stages(name: str) -> list[str | None]:
    versions = registry.versions(name)
    return [versions[number].tags.get(tracking.STAGE) for number in sorted(versions)]


@pytest.mark.parametrize(
    ("marks", "passed", "stage"),
    [
        ({"champion": 5}, None, "Production"),
        ({"champion": 5}, True, "Production"),
        ({"champion": 5, "challenger": 5}, False, "Production"),
        ({"challenger": 5}, None, "None"),
        ({}, None, "None"),
        ({"challenger": 5, "champion": 4}, True, "Staging"),
        ({"challenger": 5, "champion": 4}, False, "Archived"),
        ({"challenger": 6, "champion": 4}, True, "Archived"),
        ({"previous": 5, "champion": 6}, True, "Archived"),
        ({"previous": 5, "champion": 6}, None, "Archived"),
    ],
)
def test_stage_follows_from_aliases_and_decision(
    marks: dict[str, int], passed: bool | None, stage: str
) -> None:
    assert registry.stage(5, marks, passed) == stage


def test_a_missing_model_has_no_aliases_and_no_versions(servers: Settings) -> None:
    assert registry.aliases("no_such_model") == {}
    assert registry.versions("no_such_model") == {}
    assert registry.version("no_such_model", 1) is None


def test_aliases_and_versions_are_numbers(name: str) -> None:
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, "2")
    assert registry.aliases(name) == {"champion": 2}
    assert list(registry.versions(name)) == [3, 2, 1]
    assert registry.version(name, 3) is not None
    assert registry.version(name, 4) is None


def test_stages_follow_an_alias_that_was_moved_by_hand(name: str) -> None:
    client = tracking.client()
    client.set_registered_model_alias(name, tracking.CHAMPION, "1")
    client.set_registered_model_alias(name, tracking.CHALLENGER, "3")
    registry.restage(name)
    assert stages(name) == ["Production", "None", "None"]
    registry.judge(name, 3, "promote", may_promote=True)
    assert stages(name) == ["Production", "None", "Staging"]
    client.set_registered_model_alias(name, tracking.PREVIOUS, "1")
    client.set_registered_model_alias(name, tracking.CHAMPION, "3")
    registry.restage(name)
    assert stages(name) == ["Archived", "None", "Production"]


def test_only_tags_that_differ_are_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.restage(name)
    written: list[str] = []
    client = tracking.client()
    write = client.set_model_version_tag
    monkeypatch.setattr(
        client,
        "set_model_version_tag",
        lambda name, version, *tag: (written.append(version), write(name, version, *tag)),
    )
    registry.restage(name)
    assert written == []
    client.set_registered_model_alias(name, tracking.CHAMPION, "2")
    registry.restage(name)
    assert written == ["2"]


def test_a_version_whose_server_fails_is_rejected_after_all(name: str) -> None:
    tracking.client().set_registered_model_alias(name, tracking.CHALLENGER, "3")
    registry.judge(name, 3, "promote", may_promote=True)
    registry.reject(
        VersionRef(name=name, run_id="r", pipeline_uri="p", snapshot_uri="s", version=3)
    )
    entry = registry.versions(name)[3]
    assert registry.rejected(entry)
    assert (entry.tags[tracking.VERDICT], entry.tags[tracking.STAGE]) == ("reject", "Archived")


def test_a_bad_verdict_that_was_let_through_is_no_rejection(name: str) -> None:
    registry.judge(name, 3, "reject", may_promote=True)
    assert not registry.rejected(registry.versions(name)[3])
