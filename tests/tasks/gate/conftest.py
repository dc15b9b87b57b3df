"""The world of a gate's tests."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tasks.base.settings import Settings
from tests.tasks.gate.world import World


@pytest.fixture
def world(servers: Settings) -> World:
    return World(f"gate_{uuid4().hex[:8]}")
