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
    home = Home(tmp_path / "home")
    monkeypatch.setenv("MLOPS_HOME", str(home.root))
    settings.cache_clear()
    home.create()
    ports.save(home, ports.Ports(*unused_ports()))
    yield home
    lifecycle.down(wipe=True)
    settings.cache_clear()


@pytest.fixture
def supervisor(home: Home) -> Supervisor:
    """A running supervisord without programs."""
    running = Supervisor(home)
    leftovers.record(home, running.start())
    return running
