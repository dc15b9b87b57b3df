"""Checks of `./mlops doctor`: what may keep the stack from working, and how to fix it."""

from __future__ import annotations

import filecmp
import os
import pwd
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tasks.base.commands import typed
from tasks.base.settings import REPOSITORY, settings
from tasks.stack.embedded import ports, postgres
from tasks.stack.embedded.home import Home
from tasks.stack.service import Service
from tasks.stack.status import status

_MEMORY_GB = 4.0
_DISK_GB = 5.0
_GB = 1024**3


@dataclass(frozen=True)
class Check:
    """The result of a check; `fix` says what to do if it is not `ok`."""

    name: str
    ok: bool
    finding: str
    fix: str = ""


def examine() -> list[Check]:
    """Run all checks."""
    home = Home.of_settings()
    services = status()
    if settings().stack == "compose":
        return [_memory(), _disk(home), _open_mlflow(), *_services(services)]
    checks = [_python(), _packages(), _memory(), _folder(home), _disk(home), _user()]
    if any(service.pid for service in services.values()):
        return [*checks, *_services(services)]
    stopped = Check("stack", ok=True, finding="not running; ./mlops up starts it")
    return [*checks, stopped, *_ports(home)]


def _services(services: Mapping[str, Service]) -> Iterator[Check]:
    for name, service in services.items():
        fix = f"{typed(f'logs {name}')}; then {typed('down')} && {typed('up')}"
        yield Check(name, service.state == "running", service.state, fix)


def _open_mlflow() -> Check:
    login = settings().mlflow_login
    return Check(
        "MLflow's login",
        ok=login or not settings().domain,
        finding="on" if login else "off: open to everybody on this machine",
        fix="Set MLOPS_MLFLOW_LOGIN=on: otherwise the gateway does not serve MLflow on a domain.",
    )


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", ok, f"{version}, {sys.executable}", "Use Python 3.11, 3.12 or 3.13.")


def _packages() -> Check:
    lock = REPOSITORY / "requirements.txt"
    stamp = Path(sys.prefix) / "installed-requirements.txt"
    ok = stamp.exists() and filecmp.cmp(lock, stamp, shallow=False)
    finding = "match requirements.txt" if ok else "differ from requirements.txt"
    scripts = Path(sysconfig.get_path("scripts"))
    missing = [name for name in ("rclone", "caddy") if not (scripts / name).exists()]
    if missing:
        finding = f"{' and '.join(missing)} missing"
    return Check("packages", ok and not missing, finding, "Run ./mlops, which installs them.")


def _memory() -> Check:
    free = psutil.virtual_memory().available / _GB
    fix = f"Free {_MEMORY_GB:.0f} GB: the stack takes 1.5 GB, and a search needs more."
    return Check("memory", free >= _MEMORY_GB, f"{free:.1f} GB available", fix)


def _folder(home: Home) -> Check:
    folder = _existing(home.root)
    ok = os.access(folder, os.W_OK | os.X_OK)
    fix = f"Change the owner of {folder}, or set MLOPS_HOME to a folder that you can write to."
    return Check("state folder", ok, f"{home.root}{'' if ok else ' cannot be written'}", fix)


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(_existing(home.root)).free / _GB
    fix = f"Free {_DISK_GB:.0f} GB, or set MLOPS_HOME to a folder on a larger disk."
    return Check("disk", free >= _DISK_GB, f"{free:.1f} GB free", fix)


def _user() -> Check:
    user = postgres.system_user()
    if user is None:
        return Check("database user", ok=True, finding=pwd.getpwuid(os.getuid()).pw_name)
    exists = any(entry.pw_name == user for entry in pwd.getpwall())
    ok = exists or shutil.which("useradd") is not None
    finding = user if exists else f"{user}, created at the first start"
    fix = f"PostgreSQL refuses to run as root: create the user {user}, or use an ordinary user."
    return Check("database user", ok, finding, fix)


def _ports(home: Home) -> Iterator[Check]:
    for name, port in asdict(ports.load(home)).items():
        taken = "" if ports.free(port) else " is taken; `up` chooses another"
        yield Check(f"port of {name}", ok=True, finding=f"{port}{taken}")


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
