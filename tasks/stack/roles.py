"""Roles and databases of PostgreSQL: one of each a program, none can read another's.

Run as a program it is the compose stack's job `database`; the variables are those of `main`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from psycopg2.extensions import cursor

ROLES = ("airflow", "mlflow", "mlops")
"""A role and a database each; `mlops` does not own its own, so that its ledger only grows."""


def create(dsn: str, passwords: Mapping[str, str]) -> None:
    """Make what is missing and set the passwords.

    `dsn` is that of an administrator of the server, a superuser or one who may make roles and
    databases, and of a database that he may connect to. He owns the database `mlops`.
    """
    import psycopg2

    connection = psycopg2.connect(dsn, connect_timeout=10)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for role in ROLES:
                _create(cursor, role, passwords[role])
            cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            if cursor.fetchone() == (True,):
                cursor.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
    finally:
        connection.close()


def _create(sql: cursor, role: str, password: str) -> None:
    from psycopg2.extensions import encrypt_password

    sql.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    verb = "ALTER" if sql.fetchone() else "CREATE"
    # Hashed here: PostgreSQL writes a statement that fails into its log.
    hashed = encrypt_password(password, role, sql.connection, "scram-sha-256")
    sql.execute(f"{verb} ROLE {role} LOGIN PASSWORD %s", (hashed,))
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
    sql.execute(owner, (role,))
    found = sql.fetchone()
    if not found:
        sql.execute(f"CREATE DATABASE {role}")
    if role != "mlops" and found != (role,):
        # An administrator who is no superuser may give to a role only what he belongs to.
        sql.execute(f"GRANT {role} TO current_user")
        sql.execute(f"ALTER DATABASE {role} OWNER TO {role}")
        sql.execute(f"REVOKE {role} FROM current_user")
    sql.execute(f"REVOKE ALL ON DATABASE {role} FROM PUBLIC")
    sql.execute(f"GRANT CONNECT ON DATABASE {role} TO {role}")


class _Job(BaseSettings):
    """The job's variables: `MLOPS_ADMIN_DATABASE`, and `MLOPS_ROLES`, a file of passwords."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_")

    admin_database: str
    roles: Path


def main() -> None:
    """Make the roles, the databases, and our own tables."""
    from psycopg2.extensions import make_dsn

    from tasks.clients import database

    job = _Job()
    create(job.admin_database, json.loads(job.roles.read_text()))
    database.migrate(make_dsn(job.admin_database, dbname="mlops"))


if __name__ == "__main__":
    main()
