"""Becomes MLflow's server, with its own login when MLOPS_MLFLOW_LOGIN is on.

Its arguments are the options of `mlflow server`. The embedded stack runs it too. A program and not
a line of the compose file, because what MLflow takes from the environment only (the key that signs
its forms) must not stand in the container's description.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

SECRETS = Path("/run/secrets/mlflow")
LOGIN = ["--app-name", "basic-auth"]
CONFIGURATION = """\
[mlflow]
default_permission = READ
database_uri = {database}
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
"""


def main() -> None:
    """Prepare the login if there is to be one, and start the server."""
    command = ["server", *sys.argv[1:]]
    login = os.environ["MLOPS_MLFLOW_LOGIN"]
    if login not in {"on", "off"}:
        sys.exit(f"MLOPS_MLFLOW_LOGIN must be on or off. Got {login!r} instead.")
    if login == "on":
        prepare_login()
        command += LOGIN

    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._exec_cmd = become  # noqa: SLF001 - its command has no option for it
    cli(command)


def become(command: list[str], extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Be the server that MLflow's command else starts as a child.

    The command would stay beside it, and hold 190 MB of libraries only to wait. Killed, it leaves
    the child behind, which holds the port for which the next one then waits for ever.
    """
    os.execvpe(command[0], command, os.environ | extra_env)  # noqa: S606


def prepare_login() -> None:
    """Configure MLflow's login and make its users, or give them their present passwords."""
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    password = (SECRETS / "admin_password").read_text()
    configuration = Path("/tmp/basic_auth.ini")  # noqa: S108 - the container's own
    configuration.touch(mode=0o600)
    configuration.write_text(CONFIGURATION.format(database=database, password=password))
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(configuration)
    os.environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = (SECRETS / "flask_key").read_text()

    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database)
    tasks = (SECRETS / "tasks_password").read_text()
    # `tasks` too is an admin: it must reach what was made while there was no login.
    for user, secret in (("admin", password), ("tasks", tasks)):
        if store.has_user(user):
            store.update_user(user, password=secret, is_admin=True)
        else:
            store.create_user(user, secret, is_admin=True)


if __name__ == "__main__":
    main()
