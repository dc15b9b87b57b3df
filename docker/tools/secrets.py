"""Creates all passwords once, and gives each service only the files that it needs.

/secrets holds one file per password and is mounted only here. /for/READER is the volume of a single
reader, which is rewritten from /secrets at every start. A file in /given replaces a generated
password: use it for the keys of your own store or database. Changing the files' owners needs root.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

KEPT, GIVEN, READERS = Path("/secrets"), Path("/given"), Path("/for")
AIRFLOW, MLFLOW, MINIO, TOOLS, REDIS, GATEWAY = 50000, 10001, 10002, 10003, 10004, 10005
"""User ids of the containers; the group id is always 0."""


def main() -> None:
    """Create missing secrets, then write the files of every reader."""
    KEPT.chmod(0o700)
    for name, (uid, files) in readers(all_secrets()).items():
        folder = READERS / name
        os.chown(folder, uid, 0)
        folder.chmod(0o500 if uid else 0o755)
        for file, text in files.items():
            write(folder / file, text, uid)
    for folder, uid in ((Path("/volumes/gateway"), AIRFLOW), (Path("/volumes/caddy"), GATEWAY)):
        os.chown(folder, uid, 0)


def all_secrets() -> dict[str, str]:
    """Every secret by name."""
    makers: dict[str, Callable[[], str]] = {
        "postgres_superuser": password,
        "postgres_airflow": password,
        "postgres_mlflow": password,
        "postgres_mlops": password,
        "minio_root": password,
        # Key ids are not secret, but your own store has its own ids.
        "s3_mlflow_key": lambda: "mlflow",
        "s3_mlflow": password,
        "s3_tasks_key": lambda: "tasks",
        "s3_tasks": password,
        "s3_serving_key": lambda: "serving",
        "s3_serving": password,
        "airflow_admin": lambda: secrets.token_urlsafe(12),
        "airflow_fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "airflow_jwt": lambda: secrets.token_urlsafe(64),
        "airflow_api": password,
        "mlflow_admin": lambda: secrets.token_urlsafe(12),
        "mlflow_tasks": password,
        "mlflow_flask": password,
        "redis": password,
    }
    return {name: once(name, make) for name, make in makers.items()}


def password() -> str:
    """32 random bytes as hexadecimal digits, which need no quoting anywhere."""
    return secrets.token_hex(32)


def once(name: str, make: Callable[[], str]) -> str:
    """The value that is given, or else stored, or else new."""
    given, kept = GIVEN / name, KEPT / name
    if given.exists():
        write(kept, given.read_text().strip(), 0)
    elif not kept.exists():
        write(kept, make(), 0)
    return kept.read_text()


def readers(values: Mapping[str, str]) -> dict[str, tuple[int, dict[str, str]]]:
    """User id and files of each reader."""
    databases = {role: values[f"postgres_{role}"] for role in ("airflow", "mlflow", "mlops")}
    minio = {"root_user": "root", "root_password": values["minio_root"]}
    users = {user: values[f"s3_{user}"] for user in ("mlflow", "tasks", "serving")}
    database = {
        "pgpass": passfile({"*": values["postgres_superuser"]}),
        "roles.json": json.dumps(databases),
    }
    redis = {
        "redis.conf": f'requirepass {values["redis"]}\nsave ""\nappendonly no\n',
        "password": values["redis"],
    }
    return {
        # Read by root and by the image's user postgres, whose id differs between images.
        "postgres": (0, {"superuser": values["postgres_superuser"]}),
        "database": (AIRFLOW, database),
        "minio": (MINIO, minio),
        "buckets": (TOOLS, minio | users),
        "mlflow": (MLFLOW, mlflow_files(values, databases)),
        "airflow": (AIRFLOW, airflow_files(values, databases)),
        "cli": (AIRFLOW, cli_files(values, databases)),
        "redis": (REDIS, redis),
    }


def mlflow_files(values: Mapping[str, str], databases: Mapping[str, str]) -> dict[str, str]:
    """The files of MLflow's server."""
    return {
        "pgpass": passfile({"mlflow": databases["mlflow"]}),
        "aws_credentials": "[default]\n"
        f"aws_access_key_id = {values['s3_mlflow_key']}\n"
        f"aws_secret_access_key = {values['s3_mlflow']}\n",
        "admin_password": values["mlflow_admin"],
        "tasks_password": values["mlflow_tasks"],
        "flask_key": values["mlflow_flask"],
    }


def airflow_files(values: Mapping[str, str], databases: Mapping[str, str]) -> dict[str, str]:
    """The files of Airflow and its tasks."""
    return tasks_files(values) | {
        "pgpass": passfile({role: databases[role] for role in ("airflow", "mlops")}),
        "fernet_key": values["airflow_fernet_key"],
        "jwt_secret": values["airflow_jwt"],
        "api_secret_key": values["airflow_api"],
        "broker_url": f"redis://:{values['redis']}@redis:6379/0",
    }


def cli_files(values: Mapping[str, str], databases: Mapping[str, str]) -> dict[str, str]:
    """The files of the command line."""
    return tasks_files(values) | {
        "pgpass": passfile({"mlops": databases["mlops"]}),
        "mlops_airflow_password": values["airflow_admin"],
        "mlops_mlflow_password": values["mlflow_admin"],
    }


def tasks_files(values: Mapping[str, str]) -> dict[str, str]:
    """The files that give access to the store and to MLflow."""
    return {
        "aws_access_key_id": values["s3_tasks_key"],
        "aws_secret_access_key": values["s3_tasks"],
        "mlflow_credentials": "[mlflow]\n"
        "mlflow_tracking_username = tasks\n"
        f"mlflow_tracking_password = {values['mlflow_tasks']}\n",
    }


def passfile(passwords: Mapping[str, str]) -> str:
    """A libpq password file that is valid for any server."""
    return "".join(f"*:*:*:{role}:{secret}\n" for role, secret in passwords.items())


def write(path: Path, text: str, uid: int) -> None:
    """Write a file for a user, whole or not at all; do nothing if it is already right."""
    mode = 0o400 if uid or path.parent == KEPT else 0o444
    if path.exists() and path.read_text() == text:
        state = path.stat()
        if (state.st_uid, state.st_mode & 0o777) == (uid, mode):
            return
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chown(beside, uid, 0)
    beside.chmod(mode)
    beside.rename(path)


if __name__ == "__main__":
    main()
