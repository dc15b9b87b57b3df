"""Becomes MLflow's server, with a login if MLOPS_MLFLOW_LOGIN is on.

The arguments are the options of `mlflow server`. The embedded stack runs this program, too. MLflow
reads the key that signs its forms only from the environment. This program sets it, because in the
compose file it would show in the container's description.
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
    """Prepare the login if it is on, and start the server."""
    command = ["server", *sys.argv[1:]]
    login = os.environ["MLOPS_MLFLOW_LOGIN"]
    if login not in {"on", "off"}:
        sys.exit(f"MLOPS_MLFLOW_LOGIN must be on or off. Got {login!r} instead.")
    if login == "on":
        prepare_login()
        command += LOGIN

    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._exec_cmd = become  # noqa: SLF001 - the command has no option for this
    cli(command)


def become(command: list[str], extra_env: Mapping[str, str], **_: Any) -> NoReturn:
    """Become the server, which MLflow's command would start as a child.

    The command would wait for the child and use 190 MB of memory. If it was killed, the child would
    keep the port, and the next server would wait for that port forever.
    """
    os.execvpe(command[0], command, os.environ | extra_env)  # noqa: S606


def prepare_login() -> None:
    """Configure MLflow's login, and create its users or set their current passwords."""
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
    # `tasks` is an admin, too: it must reach what was made while the login was off.
    for user, secret in (("admin", password), ("tasks", tasks)):
        if store.has_user(user):
            store.update_user(user, password=secret, is_admin=True)
        else:
            store.create_user(user, secret, is_admin=True)


if __name__ == "__main__":
    main()
