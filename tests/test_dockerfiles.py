"""The Dockerfiles, read by hadolint."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tasks.base.settings import REPOSITORY

HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
FILES = sorted((REPOSITORY / "docker").rglob("*Dockerfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_hadolint_finds_nothing(path: Path) -> None:
    done = subprocess.run(
        [HADOLINT, "--no-color", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert len(FILES) >= 6
