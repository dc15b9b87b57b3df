"""Attacks that the filter denies by itself: nothing listens where it expects the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.attacks import REQUESTS
from tests.docker.filtering import (
    BASE,
    RunningFilter,
    archive,
    http,
    message,
    running_filter,
    send,
)
from tests.docker.world import Attack, Make, World, call, container, world_without_engine


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Names without an engine."""
    with world_without_engine(str(tmp_path_factory.mktemp("engine") / "nobody.sock")) as names:
        yield names


@pytest.fixture(scope="module")
def filtered(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFilter]:
    """The filter, which answers 502 as soon as it asks the engine."""
    log = tmp_path_factory.mktemp("filter") / "log"
    with running_filter(log, **world.filter_settings()) as service:
        yield service


@pytest.mark.parametrize(
    "attack", [attack for attack in REQUESTS if attack.denial], ids=lambda attack: attack.name
)
def test_an_attack_is_denied_before_the_engine_is_asked(
    attack: Attack, world: World, filtered: RunningFilter
) -> None:
    status, reply = send(filtered.address, attack.request(world))
    assert status in {400, 403, 413}
    assert message(reply).startswith(f"docker filter: {attack.denial}")
    assert send(filtered.address, http("GET", "/_ping"))[0] == 502


HONEST: dict[str, Make] = {
    "create": lambda w: http("POST", f"/containers/create?name={w.marker}-model-x", container(w)),
    "kill": call("POST", "/v1.41/containers/{own}/kill?signal=CONT"),
    "start": call("POST", "/containers/{own}/start"),
    "remove": call("DELETE", "/containers/{own}?force=1"),
    "list": call("GET", "/containers/json?all=1"),
    "list images": call("GET", "/images/json?all=1"),
    "inspect an image": call("GET", "/images/{image}/json"),
    "build": lambda w: http(
        "POST", f"/build?t={w.marker}/x:1", archive({"Dockerfile": f"FROM {BASE}\n"})
    ),
}


@pytest.mark.parametrize("make_request", HONEST.values(), ids=HONEST.keys())
def test_an_honest_request_is_for_the_engine(
    make_request: Make, world: World, filtered: RunningFilter
) -> None:
    """The attacks differ from these, so a denial is due to the attack alone."""
    status, reply = send(filtered.address, make_request(world))
    assert status == 502
    assert "the engine does not answer" in message(reply)
