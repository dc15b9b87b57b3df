"""Which commit of the code made a model."""

from __future__ import annotations

import subprocess

from tasks.base.settings import REPOSITORY, settings


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
