"""What a model was made of: code, libraries."""

from __future__ import annotations

import subprocess
from importlib.metadata import version

from tasks.settings import REPOSITORY, settings

REQUIREMENTS = ("mlflow", "scikit-learn", "skops", "pandas", "numpy", "scipy")
"""What a scikit-learn model needs to be loaded and served."""


def requirements(extra: tuple[str, ...] = ()) -> list[str]:
    """The installed versions, pinned. MLflow's own inference would take 18 s and find the same."""
    return [f"{name}=={version(name)}" for name in (*REQUIREMENTS, *extra)]


def git_commit() -> str:
    """The checked-out commit, with `-dirty` behind it when files differ; `unknown` without git.

    In a container the setting says it: the code is mounted there, its history is not.
    """
    if settings().git_commit:
        return settings().git_commit
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
