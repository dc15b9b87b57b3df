"""Real servers for the tests, in a state folder that goes with the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.base.settings import Settings, settings
from tasks.clients import store as store_module
from tasks.clients import tracking
from tasks.stack.embedded import lifecycle, ports
from tasks.stack.embedded.home import Home


def forget() -> None:
    """Forget the settings and the clients that were made with them."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # mlflow.set_tracking_uri puts it there
    settings.cache_clear()
    store_module.client.cache_clear()
    tracking.client.cache_clear()


def unused_ports(count: int = 5) -> list[int]:
    """Ports that nobody listens on, none of them twice."""
    found: set[int] = set()
    while len(found) < count:
        found.add(ports.unused())
    return list(found)


def use_home(root: Path) -> None:
    """Make the settings of this process those of the stack in `root`, on ports of its own."""
    os.environ["MLOPS_HOME"] = str(root)
    forget()
    home = Home(root)
    home.create()
    ports.save(home, ports.Ports(*unused_ports()))


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """PostgreSQL with its roles and tables."""
    before = os.environ.get("MLOPS_HOME")
    use_home(tmp_path_factory.mktemp("home"))
    try:
        lifecycle.start(only=("postgres",))
        yield settings()
    finally:
        lifecycle.down(wipe=True)
        if before is None:
            os.environ.pop("MLOPS_HOME")
        else:
            os.environ["MLOPS_HOME"] = before
        forget()


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
