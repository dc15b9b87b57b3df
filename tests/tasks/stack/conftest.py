"""State folders of a test's own, with or without servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.base.settings import settings
from tasks.stack.embedded import leftovers, lifecycle, ports
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.supervisor import Supervisor
from tests.conftest import unused_ports


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A state folder that the settings name, on ports of its own; what ran there is ended."""
    found = Home(tmp_path / "home")
    monkeypatch.setenv("MLOPS_HOME", str(found.root))
    settings.cache_clear()
    found.create()
    ports.save(found, ports.Ports(*unused_ports()))
    yield found
    lifecycle.down(wipe=True)
    settings.cache_clear()


@pytest.fixture
def supervisor(home: Home) -> Supervisor:
    """A running supervisord without programs."""
    found = Supervisor(home)
    leftovers.record(home, found.start())
    return found
