"""The commit of the code that made a model."""

from __future__ import annotations

import subprocess

from tasks.base.settings import REPOSITORY, settings


def git_commit() -> str:
    """The checked-out commit; with `-dirty` if files differ, or `unknown` without git.

    In a container a setting names it, because the code is mounted there without its history.
    """
    if settings().git_commit:
        return settings().git_commit
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
