"""What building and deploying share: the lock on a model's servers, and how to serve it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from tasks.base.errors import UnavailableError, UserError
from tasks.clients import database, tracking
from tasks.clients.database import Connection
from tasks.pipeline import load
from tasks.pipeline.schema import Serving
from tasks.records import registry, resolved

log = logging.getLogger(__name__)


@contextmanager
def lock(name: str) -> Iterator[Connection]:
    """Hold the advisory lock for starting and stopping a model's servers.

    Raises:
        UnavailableError: The lock was lost meanwhile.
    """
    try:
        with database.locked(f"deploy/{name}") as connection:
            yield connection
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
        raise UnavailableError(
            f"PostgreSQL went away while {name} was being deployed.", why=str(err).strip()
        ) from err


def serving_of(name: str, version: int | None) -> Serving:
    """How to serve the model, from its current file: a new limit needs no new version.

    Without a valid file, the one that the version was made from counts.
    """
    try:
        return load.load(name).serving
    except UserError as err:
        log.info("serving %s by the file of its version: %s", name, err.what)
    entry = registry.version(name, version) if version is not None else None
    uri = entry.tags.get(tracking.PIPELINE) if entry else None
    return resolved.read(uri).serving if uri else Serving()
