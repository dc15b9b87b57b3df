"""The one running stack that these tests share, which takes a third of a core even when idle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.compose import memory
from tests.compose.conftest import Project, new_project, remove, sign_in
from tests.published import PUBLISHED
from tests.waiting import until

IDLE_BYTES = 2.0e9


@dataclass(frozen=True)
class FirstUp:
    """A new stack as it was before anything ran on it."""

    project: Project
    memory: dict[str, float]


@pytest.fixture(scope="package")
def first_up(tree: Path) -> Iterator[FirstUp]:
    """The stack of these tests, measured when it had just come up; gone after the last of them."""
    names = {uri: Path(path).name for uri, path in PUBLISHED.items()}
    made = new_project(tree).with_env(MLOPS_SOURCE_MAP=json.dumps(names))
    try:
        made.up()
        yield FirstUp(made, idle_memory(made))
    finally:
        remove(made)


def idle_memory(project: Project) -> dict[str, float]:
    """The least that was read in two minutes, or what was within the limit before."""
    readings: list[dict[str, float]] = []

    def settled() -> bool:
        readings.append(memory(project.name))
        return sum(readings[-1].values()) <= IDLE_BYTES

    with suppress(AssertionError):  # of which the test of it tells
        until(settled, 120, "it is idle")
    return min(readings, key=lambda reading: sum(reading.values()))


@pytest.fixture(scope="package")
def project(first_up: FirstUp) -> Project:
    """The running stack that these tests share."""
    return first_up.project


@pytest.fixture(scope="package")
def airflow(project: Project) -> httpx.Client:
    """A client that is signed in to Airflow, through the gateway."""
    return sign_in(project)
