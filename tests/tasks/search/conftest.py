"""The servers that a search of the tests needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.base.settings import Settings
from tasks.clients import store, tracking
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.supervisor import Supervisor
from tests.tasks.search import searches


@pytest.fixture(scope="session")
def stack(servers: Settings) -> Iterator[Supervisor]:
    """The servers, to be stopped and started; caches of their addresses are cleared."""
    store.client.cache_clear()
    tracking.client.cache_clear()
    searches.snapshot.cache_clear()
    yield Supervisor(Home(servers.home))
    store.client.cache_clear()
    tracking.client.cache_clear()
    searches.snapshot.cache_clear()
