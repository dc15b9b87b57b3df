"""What a model's image installs: the model's own requirements, and those of the scoring server.

Every version is given. What the model does not pin is pinned as it is installed here, which is as
the project's lock has it; so equal models share a layer, and a build next year gives the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

SERVER = (*("fastapi", "httptools", "mlflow-skinny", "numpy", "pandas", "uvicorn", "uvloop"),)
"""What `tasks.serving.server` imports. pyarrow, by which it reads Parquet, is a fifth of such an
image: only where the model asks for it."""


@dataclass(frozen=True)
class Requirements:
    """Two files for the installer."""

    wanted: str
    """What to install, one requirement a line."""
    pins: str
    """The version of anything else that comes with it."""


def of_model(folder: Path) -> Requirements:
    """The requirements of the model in a folder."""
    lines = (folder / "requirements.txt").read_text().splitlines()
    wanted = [_without_server(line.strip()) for line in lines]
    wanted = [line for line in wanted if line and not line.startswith("#")]
    named = {name: pinned for line in wanted for name, pinned in _parsed(line)}
    installed = _installed([*named, *SERVER])
    wanted += [f"{name}=={installed[name]}" for name in SERVER if name not in named]
    pins = [
        f"{name}=={version}"
        for name, version in sorted(installed.items())
        if not named.get(name, name in SERVER)
    ]
    return Requirements(_lines(sorted(wanted)), _lines(pins))


def _without_server(line: str) -> str:
    """MLflow without its tracking server, its database and its pages, which no model needs."""
    for name, _ in _parsed(line):
        if name == "mlflow" and not Requirement(line).extras:
            return line.replace("mlflow", "mlflow-skinny", 1)
    return line


def _parsed(line: str) -> list[tuple[str, bool]]:
    """The name in a line and whether a version is given; none for an option such as `-e`."""
    try:
        requirement = Requirement(line.partition(" #")[0])
    except InvalidRequirement:
        return []
    return [(canonicalize_name(requirement.name), bool(requirement.specifier or requirement.url))]


def _installed(names: list[str]) -> dict[str, str]:
    """The versions of these distributions here, and of all that they need."""
    found: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            here = distribution(name)
        except PackageNotFoundError:  # the model's alone: then its version is the model's affair
            continue
        found[name] = here.version
        waiting += [
            canonicalize_name(needed.name)
            for needed in map(Requirement, here.requires or [])
            if needed.marker is None or needed.marker.evaluate({"extra": ""})
        ]
    return found


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
