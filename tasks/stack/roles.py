"""PostgreSQL's roles and databases: each program has its own and cannot read the others'.

Run as a program, this module is the compose stack's job `database`.
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
"""Each has a database of the same name. `mlops` does not own it: its ledger must be append-only."""


def create(dsn: str, passwords: Mapping[str, str]) -> None:
    """Create what is missing and set the passwords.

    `dsn` names an administrator (a superuser, or a role with the rights to create roles and
    databases) and a database to connect to. The administrator owns the database `mlops`.
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
    # Hashed here, because PostgreSQL logs failing statements.
    hashed = encrypt_password(password, role, sql.connection, "scram-sha-256")
    sql.execute(f"{verb} ROLE {role} LOGIN PASSWORD %s", (hashed,))
    sql.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", (role,))
    owner = sql.fetchone()
    if not owner:
        sql.execute(f"CREATE DATABASE {role}")
    if role != "mlops" and owner != (role,):
        # Without superuser rights, only members of a role can give it a database.
        sql.execute(f"GRANT {role} TO current_user")
        sql.execute(f"ALTER DATABASE {role} OWNER TO {role}")
        sql.execute(f"REVOKE {role} FROM current_user")
    sql.execute(f"REVOKE ALL ON DATABASE {role} FROM PUBLIC")
    sql.execute(f"GRANT CONNECT ON DATABASE {role} TO {role}")


class _Job(BaseSettings):
    """The job's variables: `MLOPS_ADMIN_DATABASE` (a DSN) and `MLOPS_ROLES` (a password file)."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_")

    admin_database: str
    roles: Path


def main() -> None:
    """Create the roles, the databases, and the tables of `mlops`."""
    from psycopg2.extensions import make_dsn

    from tasks.clients import database

    job = _Job()
    create(job.admin_database, json.loads(job.roles.read_text()))
    database.migrate(make_dsn(job.admin_database, dbname="mlops"))


if __name__ == "__main__":
    main()
