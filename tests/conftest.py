"""Real servers for the tests, in a state folder that is removed after the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.base.settings import Settings, settings
from tasks.clients import store as store_module
from tasks.clients import tracking
from tasks.stack.embedded import lifecycle, ports
from tasks.stack.embedded.home import Home


def forget() -> None:
    """Clear the cached settings and the clients that were made from them."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow.set_tracking_uri puts it there
    settings.cache_clear()
    store_module.client.cache_clear()
    tracking.client.cache_clear()


def unused_ports(count: int = 5) -> list[int]:
    """Distinct ports on which nobody listens."""
    numbers: set[int] = set()
    while len(numbers) < count:
        numbers.add(ports.unused())
    return list(numbers)


@contextmanager
def state_folder(root: Path) -> Iterator[Home]:
    """Point the settings at a stack in `root`, on its own ports; remove it at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_HOME", str(root))
        forget()
        home = Home(root)
        home.create()
        ports.save(home, ports.Ports(*unused_ports()))
        try:
            yield home
        finally:
            lifecycle.down(wipe=True)
    forget()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """PostgreSQL with its roles and tables."""
    with state_folder(tmp_path_factory.mktemp("home")):
        lifecycle.start(only=("postgres",))
        yield settings()


@pytest.fixture(scope="session")
def store(database: Settings) -> Settings:
    """The S3 server, with its buckets."""
    lifecycle.start(only=("postgres", "store"))
    return database


@pytest.fixture(scope="session")
def servers(store: Settings) -> Settings:
    """PostgreSQL, the S3 server and MLflow."""
    lifecycle.start(only=("postgres", "store", "mlflow"))
    return store
