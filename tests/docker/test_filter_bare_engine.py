"""What the attacks do to an engine without the filter: their denial must prove something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.docker.attacks import REAL
from tests.docker.attacks_create import CREATE, LOOKS_HONEST
from tests.docker.filtering import http, send
from tests.docker.world import Attack, World, container, world_with_engine

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An engine with a victim in it."""
    with world_with_engine() as made:
        yield made


@pytest.fixture(scope="module")
def honest(world: World) -> dict[str, Any]:
    """The container that the engine makes of an honest request."""
    return world.create(http("POST", "/containers/create", container(world)))


@pytest.mark.parametrize("attack", CREATE, ids=lambda attack: attack.name)
def test_the_engine_creates_what_is_asked(
    attack: Attack, world: World, honest: dict[str, Any]
) -> None:
    try:
        created = world.create(attack.request(world))
        assert created != honest or attack.name in LOOKS_HONEST
    finally:
        world.clear()


@pytest.mark.parametrize("attack", REAL, ids=lambda attack: attack.name)
def test_the_attack_does_harm(attack: Attack, world: World) -> None:
    before = world.state()
    try:
        _, reply = send(world.socket, attack.request(world))
        leaked = attack.leak is not None and attack.leak(world).encode() in reply
        assert leaked or world.state() != before, reply
    finally:
        world.clear()
        world.make()
