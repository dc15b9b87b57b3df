"""The state folder: where everything of one stack lies, readable by its owner alone."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

from tasks.base.errors import MlopsError, UserError
from tasks.base.settings import settings

# The kernel's limit is 107 bytes (103 on macOS), less the longest name: `supervisor.sock.4194304`.
_LONGEST_SOCKET_FOLDER = 79


@dataclass(frozen=True)
class Secrets:
    """Passwords and keys, made once for a state folder."""

    postgres: str
    airflow_database: str
    mlflow_database: str
    mlops_database: str
    s3_key: str
    s3_secret: str
    airflow_admin: str
    fernet_key: str
    jwt_secret: str
    api_secret_key: str

    @classmethod
    def generate(cls) -> Secrets:
        """New random values, each long enough for its use (the JWT secret signs with HS512)."""
        return cls(
            postgres=secrets.token_urlsafe(24),
            airflow_database=secrets.token_urlsafe(24),
            mlflow_database=secrets.token_urlsafe(24),
            mlops_database=secrets.token_urlsafe(24),
            s3_key=secrets.token_hex(10),
            s3_secret=secrets.token_urlsafe(30),
            airflow_admin=secrets.token_urlsafe(12),
            fernet_key=urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            jwt_secret=secrets.token_urlsafe(64),
            api_secret_key=secrets.token_urlsafe(32),
        )


@dataclass(frozen=True)
class Home:
    """The paths of one state folder."""

    root: Path

    @classmethod
    def of_settings(cls) -> Home:
        """The state folder that the settings name."""
        return cls(settings().home.absolute())

    @property
    def secrets_folder(self) -> Path:
        """Passwords and keys."""
        return self.root / "secrets"

    @property
    def run(self) -> Path:
        """Locks, pid files and what else says who is running."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log a program."""
        return self.root / "logs"

    @property
    def programs(self) -> Path:
        """One supervisord section (`NAME.conf`) and one specification (`NAME.json`) a program."""
        return self.root / "programs"

    @property
    def store(self) -> Path:
        """The object store: one folder a bucket."""
        return self.root / "store"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's folder; as root a link to a place which its user can reach."""
        return self.root / "postgres"

    @property
    def airflow(self) -> Path:
        """`AIRFLOW_HOME`."""
        return self.root / "airflow"

    @property
    def gateway(self) -> Path:
        """The gateway's configuration and its upstream files."""
        return self.root / "gateway"

    @property
    def env_file(self) -> Path:
        """What `tasks.base.settings` reads."""
        return self.root / "env"

    @property
    def digest(self) -> str:
        """A short name for what must lie outside the state folder."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    def create(self) -> None:
        """Make the folders, each for the owner alone."""
        folders = (
            self.root, self.secrets_folder, self.run, self.logs, self.programs,
            self.store, self.airflow, self.gateway,
        )  # fmt: skip
        try:
            if self.root.is_dir() and not self.secrets_folder.exists() and any(self.root.iterdir()):
                raise UserError(
                    f"The state folder {self.root} holds other files.",
                    why="It is closed to other users, and `down --wipe` removes it whole.",
                    fix="Set MLOPS_HOME to a folder that is empty or not there yet.",
                )
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for folder in folders:
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except OSError as err:
            raise UserError(
                f"The state folder {self.root} cannot be written.",
                why=str(err),
                fix="Make it yours, or set MLOPS_HOME to a folder that you may write to.",
            ) from err

    @cached_property
    def sockets(self) -> Path:
        """A folder for Unix sockets, outside the state folder where its path is too long."""
        if len(os.fsencode(self.run)) <= _LONGEST_SOCKET_FOLDER:
            return self.run
        record = self.run / "sockets"
        if record.exists():
            folder = Path(record.read_text())
        else:
            folder = Path(tempfile.gettempdir()) / f"mlops-{os.getuid()}-{self.digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if folder.is_symlink() or status.st_uid != os.getuid():
            raise MlopsError(
                f"{folder} belongs to somebody else.",
                why=f"The path of {self.root} is too long for Unix sockets, which must lie there.",
                fix="Remove it, or set MLOPS_HOME to a shorter path.",
            )
        folder.chmod(0o700)
        if not record.exists() and self.run.is_dir():
            write_private(record, str(folder))
        return folder

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets, made on first use. Call it under `lock` the first time."""
        path = self.secrets_folder / "secrets.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        names = {field.name for field in fields(Secrets)}
        values = {**asdict(Secrets.generate()), **{k: v for k, v in known.items() if k in names}}
        if values != known:
            write_private(path, json.dumps(values, indent=1))
        return Secrets(**values)

    def pgpass(self, role: str) -> Path:
        """The password file of a database role."""
        return self.secrets_folder / f"pgpass-{role}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folders; one `up` or `down` at a time. The lock goes with its process."""
        path = self.run / "lock"
        while True:
            self.create()
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    yield
                    return
                # a `down --wipe` removed the folder meanwhile


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    beside.replace(path)
