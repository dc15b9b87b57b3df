"""Writes the rows of a PostgreSQL query to a CSV file, in a read-only transaction."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import psycopg2

from tasks.base.errors import MlopsError, UnavailableError, UserError
from tasks.clients.connections import Connection
from tasks.pipeline.schema import Source

log = logging.getLogger(__name__)

KINDS = frozenset({"postgres", "postgresql"})
"""Airflow's types of a connection to PostgreSQL."""
LIMIT = 1800.0
"""Seconds that a query may take."""
NULL = r"\N"
"""A null in the file, distinct from an empty text."""
READ = {"na_values": [NULL], "keep_default_na": False}
"""Options for pandas to read the file."""
_EXTRAS = frozenset({"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "options"})
"""Keys of a connection's `extra` that are passed to PostgreSQL's library."""
_REFUSED = re.compile("authentication failed|does not exist|no pg_hba.conf entry|no password")
_SETTINGS = """
set default_transaction_read_only = on; set statement_timeout = %s;
set datestyle = 'ISO'; set timezone = 'UTC'; set intervalstyle = 'iso_8601';
set extra_float_digits = 3; set bytea_output = 'hex'
"""
"""Values must have the same text whatever the settings of the server and the role."""


def copy(source: Source, connection: Connection, path: Path) -> None:
    """Write the result of the source's query to `path`, row by row, with a header.

    Raises:
        UserError: The login is wrong, or the query is invalid or writes.
        UnavailableError: The server did not answer, or not in time.
    """
    session = _connect(source, connection)
    try:
        # For the session: the query's text might end the transaction.
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(_SETTINGS, (f"{LIMIT * 1000:.0f}ms",))
        session.autocommit = False
        # A consistent state of the database for all rows, and no way to change it.
        session.set_session(readonly=True, isolation_level="REPEATABLE READ")
        with session.cursor() as cursor, path.open("wb") as file:
            query = str(source.query).strip().rstrip(";")
            cursor.copy_expert(
                f"copy (\n{query}\n) to stdout "
                f"with (format csv, header, null '{NULL}', encoding 'UTF8')",
                file,
            )
    except psycopg2.Error as err:
        raise _explain(err, source) from err
    finally:
        session.close()


def _connect(source: Source, connection: Connection) -> Any:
    database = source.uri.removeprefix("postgresql://") or connection.database
    parameters: dict[str, Any] = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password.get_secret_value() if connection.password else None,
        "dbname": database,
    } | {key: value for key in _EXTRAS if (value := connection.option(key))}
    try:
        return psycopg2.connect(
            **{key: value for key, value in parameters.items() if value is not None},
            application_name="mlops prepare",
            connect_timeout=10,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
    except psycopg2.OperationalError as err:
        why = str(err).strip()
        if _REFUSED.search(why):
            raise UserError(
                f"PostgreSQL refused the connection {connection.name!r}.",
                why=why,
                fix="Correct the connection's login, password or schema (its database).",
            ) from err
        raise UnavailableError(
            f"PostgreSQL does not answer on the connection {connection.name!r}.", why=why
        ) from err


def _explain(err: psycopg2.Error, source: Source) -> MlopsError:
    what = f"The query on the connection {source.connection!r}"
    why = str(err).strip()
    match err:
        case psycopg2.errors.ReadOnlySqlTransaction():
            return UserError(
                f"{what} must only read.", why=why, fix="Use a SELECT that changes nothing."
            )
        case psycopg2.errors.QueryCanceled():
            return UnavailableError(f"{what} took longer than {LIMIT:g} s.", why=why)
        case psycopg2.OperationalError() | psycopg2.InterfaceError():
            return UnavailableError(f"{what} was cut off.", why=why)
    return UserError(
        f"{what} failed.", why=why, fix="Correct the source's query in the pipeline file."
    )
