"""The state folder: all files of an embedded stack, readable only by their owner."""

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
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path

from tasks.base.errors import MlopsError, UserError
from tasks.base.settings import settings

# The kernel allows 107 bytes (103 on macOS); the longest name is `supervisor.sock.4194304`.
_LONGEST_SOCKET_FOLDER = 79


def _random(size: int) -> str:
    return field(default_factory=partial(secrets.token_urlsafe, size))


@dataclass(frozen=True)
class Secrets:
    """Passwords and keys, random by default and long enough (the JWT secret signs with HS512)."""

    postgres: str = _random(24)
    airflow_database: str = _random(24)
    mlflow_database: str = _random(24)
    mlops_database: str = _random(24)
    s3_key: str = field(default_factory=partial(secrets.token_hex, 10))
    s3_secret: str = _random(30)
    airflow_admin: str = _random(12)
    fernet_key: str = field(
        default_factory=lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode()
    )
    jwt_secret: str = _random(64)
    api_secret_key: str = _random(32)


class Home:
    """A state folder and its paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env_file = root / "env"  # read by tasks.base.settings
        self.secrets_folder = root / "secrets"
        self.run = root / "run"  # locks, pid files and sockets
        self.logs = root / "logs"  # one file per program
        self.programs = root / "programs"  # see the module `program`
        self.store = root / "store"  # one folder per bucket
        self.airflow = root / "airflow"  # AIRFLOW_HOME
        self.gateway = root / "gateway"  # configuration and upstreams
        self.postgres = root / "postgres"
        """For root, a link to a folder that PostgreSQL's user can reach."""

    @classmethod
    def of_settings(cls) -> Home:
        """The state folder that the settings name."""
        return cls(settings().home.absolute())

    @property
    def digest(self) -> str:
        """A short name for files that must lie outside the state folder."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    def create(self) -> None:
        """Create the folders, each accessible only to the owner."""
        folders = (
            self.root, self.secrets_folder, self.run, self.logs, self.programs,
            self.store, self.airflow, self.gateway,
        )  # fmt: skip
        try:
            if self.root.is_dir() and not self.secrets_folder.exists() and any(self.root.iterdir()):
                raise UserError(
                    f"The state folder {self.root} contains other files.",
                    why="`up` would close it to other users, and `down --wipe` would delete it.",
                    fix="Set MLOPS_HOME to a folder that is empty or does not exist.",
                )
            self.root.parent.mkdir(parents=True, exist_ok=True)
            for folder in folders:
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except OSError as err:
            raise UserError(
                f"The state folder {self.root} cannot be written.",
                why=str(err),
                fix="Change its owner, or set MLOPS_HOME to a folder that you can write to.",
            ) from err

    @cached_property
    def sockets(self) -> Path:
        """The folder for Unix sockets; outside the state folder if that has too long a path."""
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
                f"{folder} belongs to another user.",
                why=f"Sockets go there because the path {self.root} is too long for them.",
                fix="Remove it, or set MLOPS_HOME to a shorter path.",
            )
        folder.chmod(0o700)
        if not record.exists() and self.run.is_dir():
            write_private(record, str(folder))
        return folder

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets, generated on first use: hold `lock` then."""
        path = self.secrets_folder / "secrets.json"
        stored = json.loads(path.read_text()) if path.exists() else {}
        names = {field.name for field in fields(Secrets)}
        current = Secrets(**{name: stored[name] for name in names & stored.keys()})
        write_private(path, json.dumps(asdict(current), indent=1))
        return current

    def pgpass(self, role: str) -> Path:
        """The password file of a database role."""
        return self.secrets_folder / f"pgpass-{role}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Create the folders, and allow one `up` or `down` at a time; freed when a process ends."""
        path = self.run / "lock"
        while True:
            self.create()
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    yield
                    return
                # `down --wipe` has removed the folder in the meantime


def write_private(path: Path, text: str) -> bool:
    """Write a file, whole or not at all, for its owner only; returns whether it changed."""
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
        return False
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    beside.replace(path)
    return True
