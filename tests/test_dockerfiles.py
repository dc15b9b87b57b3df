"""The Dockerfiles, checked by hadolint, and the version of uv in them."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tasks.base.settings import REPOSITORY

HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
FILES = sorted((REPOSITORY / "docker").rglob("*Dockerfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_hadolint_finds_nothing(path: Path) -> None:
    checked = subprocess.run(
        [HADOLINT, "--no-color", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert len(FILES) >= 6


def test_the_models_images_are_made_with_the_launchers_uv() -> None:
    (version,) = re.findall(r"^UV=(\S+)", (REPOSITORY / "mlops").read_text(), re.MULTILINE)
    text = (REPOSITORY / "docker" / "model" / "requirements.Dockerfile").read_text()
    assert re.findall(r"^ARG UV=(\S+)", text, re.MULTILINE) == [version]
