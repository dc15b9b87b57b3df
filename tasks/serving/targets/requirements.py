"""What a model's image installs: the requirements of the model and of the scoring server.

Every package gets a version. What the model does not pin is pinned to the version installed here,
which is the one in the project's lock. So equal models share a layer, and a build next year gives
the same image.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

SERVER = ("fastapi", "httptools", "mlflow-skinny", "numpy", "pandas", "uvicorn", "uvloop")
"""What `tasks.serving.server` imports. It reads Parquet with pyarrow, which would be a fifth of the
image, so that is installed only if the model requires it."""


@dataclass(frozen=True)
class Requirements:
    """Two files for the installer."""

    required: str
    """What to install, one requirement a line."""
    pins: str
    """The versions of everything else that comes with it."""


def collect(folder: Path) -> Requirements:
    """The requirements of the model in a folder."""
    lines = map(str.strip, (folder / "requirements.txt").read_text().splitlines())
    required = [_without_server(line) for line in lines if line and not line.startswith("#")]
    named = {name: pinned for line in required for name, pinned in _parsed(line)}
    installed = _installed([*named, *SERVER])
    required += [f"{name}=={installed[name]}" for name in SERVER if name not in named]
    pins = [
        f"{name}=={version}"
        for name, version in sorted(installed.items())
        if not named.get(name, name in SERVER)
    ]
    return Requirements(_lines(sorted(required)), _lines(pins))


def _without_server(line: str) -> str:
    """MLflow without its tracking server, database and pages, which no model needs."""
    for name, _ in _parsed(line):
        if name == "mlflow" and not Requirement(line).extras:
            return line.replace("mlflow", "mlflow-skinny", 1)
    return line


def _parsed(line: str) -> list[tuple[str, bool]]:
    """The name in a line and whether it has a version; nothing for an option such as `-e`."""
    try:
        requirement = Requirement(line.partition(" #")[0])
    except InvalidRequirement:
        return []
    return [(canonicalize_name(requirement.name), bool(requirement.specifier or requirement.url))]


def _installed(names: list[str]) -> dict[str, str]:
    """The versions of these distributions here, and of everything that they need."""
    versions: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in versions:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # only the model has it, and only the model can pin it
            continue
        versions[name] = installed.version
        waiting += [
            canonicalize_name(required.name)
            for required in map(Requirement, installed.requires or [])
            if required.marker is None or required.marker.evaluate({"extra": ""})
        ]
    return versions


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
