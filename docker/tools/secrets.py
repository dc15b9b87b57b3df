"""Makes every password once, and gives each service the files that it needs and no others.

/secrets holds one file a password and is mounted nowhere else; /for/READER is a volume of that
reader alone, written anew from /secrets at every start. A file in /given wins over a made one:
keys of a store or a database that is not ours. Needs root, to give files to their readers.
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
"""User ids of the containers; the group is always 0."""


def main() -> None:
    """Make what is missing, then write every reader's files."""
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
    made: dict[str, Callable[[], str]] = {
        "postgres_superuser": password,
        "postgres_airflow": password,
        "postgres_mlflow": password,
        "postgres_mlops": password,
        "minio_root": password,
        # Key ids are no secrets; of a store that is not ours they are given with its secrets.
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
    return {name: once(name, make) for name, make in made.items()}


def password() -> str:
    """32 random bytes, in characters that need no quoting anywhere."""
    return secrets.token_hex(32)


def once(name: str, make: Callable[[], str]) -> str:
    """The given value, else the kept one, else a new one."""
    given, kept = GIVEN / name, KEPT / name
    if given.exists():
        write(kept, given.read_text().strip(), 0)
    elif not kept.exists():
        write(kept, make(), 0)
    return kept.read_text()


def readers(known: Mapping[str, str]) -> dict[str, tuple[int, dict[str, str]]]:
    """User id and files of each reader."""
    postgres = {role: known[f"postgres_{role}"] for role in ("airflow", "mlflow", "mlops")}
    root = {"root_user": "root", "root_password": known["minio_root"]}
    tasks = {
        "aws_access_key_id": known["s3_tasks_key"],
        "aws_secret_access_key": known["s3_tasks"],
        "mlflow_credentials": "[mlflow]\n"
        "mlflow_tracking_username = tasks\n"
        f"mlflow_tracking_password = {known['mlflow_tasks']}\n",
    }
    return {
        # Read by root and by the image's own postgres user, whose id differs between images.
        "postgres": (0, {"superuser": known["postgres_superuser"]}),
        "database": (
            AIRFLOW,
            {
                "pgpass": passfile({"*": known["postgres_superuser"]}),
                "roles.json": json.dumps(postgres),
            },
        ),
        "minio": (MINIO, root),
        "buckets": (
            TOOLS,
            root | {user: known[f"s3_{user}"] for user in ("mlflow", "tasks", "serving")},
        ),
        "mlflow": (
            MLFLOW,
            {
                "pgpass": passfile({"mlflow": postgres["mlflow"]}),
                "aws_credentials": "[default]\n"
                f"aws_access_key_id = {known['s3_mlflow_key']}\n"
                f"aws_secret_access_key = {known['s3_mlflow']}\n",
                "admin_password": known["mlflow_admin"],
                "tasks_password": known["mlflow_tasks"],
                "flask_key": known["mlflow_flask"],
            },
        ),
        "airflow": (
            AIRFLOW,
            tasks
            | {
                "pgpass": passfile({role: postgres[role] for role in ("airflow", "mlops")}),
                "fernet_key": known["airflow_fernet_key"],
                "jwt_secret": known["airflow_jwt"],
                "api_secret_key": known["airflow_api"],
                "broker_url": f"redis://:{known['redis']}@redis:6379/0",
            },
        ),
        "cli": (
            AIRFLOW,
            tasks
            | {
                "pgpass": passfile({"mlops": postgres["mlops"]}),
                "mlops_airflow_password": known["airflow_admin"],
                "mlops_mlflow_password": known["mlflow_admin"],
            },
        ),
        "redis": (
            REDIS,
            {
                "redis.conf": f'requirepass {known["redis"]}\nsave ""\nappendonly no\n',
                "password": known["redis"],
            },
        ),
    }


def passfile(passwords: Mapping[str, str]) -> str:
    """A password file of libpq, for any server."""
    return "".join(f"*:*:*:{role}:{secret}\n" for role, secret in passwords.items())


def write(path: Path, text: str, uid: int) -> None:
    """Write a file for one user, whole or not at all; what is right already stays as it is."""
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
