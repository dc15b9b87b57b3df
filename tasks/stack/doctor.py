"""What may keep the stack from working here, each with a way out."""

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
    """One finding; `fix` says what to do when it is not `ok`."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def examine() -> list[Check]:
    """All checks."""
    home = Home.of_settings()
    if settings().stack == "compose":
        return [_memory(), _disk(home), _open_mlflow(), *_services(status())]
    checks = [_python(), _packages(), _memory(), _folder(home), _disk(home), _user()]
    found = status()
    up = any(service.pid for service in found.values())
    if up:
        checks.extend(_services(found))
    else:
        checks.append(Check("stack", ok=True, found="does not run; ./mlops up starts it"))
        checks.extend(_ports(home))
    return checks


def _services(found: Mapping[str, Service]) -> Iterator[Check]:
    for name, service in found.items():
        fix = f"{typed(f'logs {name}')}; then {typed('down')} && {typed('up')}"
        yield Check(name, service.state == "running", service.state, fix)


def _open_mlflow() -> Check:
    ours = settings()
    fine = ours.mlflow_login or not ours.domain
    found = "on" if ours.mlflow_login else "off: open to this machine"
    fix = "Set MLOPS_MLFLOW_LOGIN=on: without it the gateway does not open MLflow under a domain."
    return Check("MLflow's login", fine, found, fix)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("python", fine, f"{version}, {sys.executable}", "Use Python 3.11, 3.12 or 3.13.")


def _packages() -> Check:
    lock = REPOSITORY / "requirements.txt"
    stamp = Path(sys.prefix) / "installed-requirements.txt"
    fine = stamp.exists() and filecmp.cmp(lock, stamp, shallow=False)
    found = "as in requirements.txt" if fine else "not those of requirements.txt"
    missing = [
        name
        for name in ("rclone", "caddy")
        if not (Path(sysconfig.get_path("scripts")) / name).exists()
    ]
    if missing:
        found = f"{' and '.join(missing)} missing"
    return Check("packages", fine and not missing, found, "Run ./mlops, which installs them.")


def _memory() -> Check:
    free = psutil.virtual_memory().available / _GB
    fix = f"The stack takes 1.5 GB and a search more: have {_MEMORY_GB:.0f} GB free."
    return Check("memory", free >= _MEMORY_GB, f"{free:.1f} GB available", fix)


def _folder(home: Home) -> Check:
    place = _existing(home.root)
    fine = os.access(place, os.W_OK | os.X_OK)
    fix = f"Make {place} yours, or set MLOPS_HOME to a folder that you may write to."
    return Check("state folder", fine, f"{home.root}{'' if fine else ' cannot be written'}", fix)


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(_existing(home.root)).free / _GB
    fix = f"Have {_DISK_GB:.0f} GB free, or set MLOPS_HOME to a larger disk."
    return Check("disk", free >= _DISK_GB, f"{free:.1f} GB free", fix)


def _user() -> Check:
    wanted = postgres.system_user()
    if wanted is None:
        return Check("database user", ok=True, found=pwd.getpwuid(os.getuid()).pw_name)
    known = any(entry.pw_name == wanted for entry in pwd.getpwall())
    fine = known or shutil.which("useradd") is not None
    found = wanted if known else f"{wanted}, made when the stack first starts"
    fix = f"PostgreSQL refuses root: make the user {wanted}, or run as an ordinary user."
    return Check("database user", fine, found, fix)


def _ports(home: Home) -> Iterator[Check]:
    for name, port in asdict(ports.load(home)).items():
        found = (
            f"{port}" if ports.free(port) else f"{port} is taken; another is chosen at the start"
        )
        yield Check(f"port of {name}", ok=True, found=found)


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())
