"""The pipeline that faults of the compose stack find at work, and a hold on the stack for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.base.settings import settings
from tasks.clients.orchestrator import Airflow
from tests.chain.conftest import PIPELINES, Chain
from tests.compose.conftest import Project
from tests.conftest import forget

NAME = "steady"
# Longer fits than beside the embedded stack: several services are struck in one search.
FILE = (
    (PIPELINES / f"{NAME}.yaml")
    .read_text()
    .replace("[300, 400]", "[1000, 1200]")
    .replace("A search", "Größe, a search")
    .replace("gate: {thresholds: {rmse: 1}}", "gate: {mode: dry_run}")
)


def write(project: Project, text: str = FILE) -> None:
    """Write the pipeline's file where the stack reads it."""
    (project.folder / "pipelines" / f"{NAME}.yaml").write_text(text)


@contextmanager
def reached(project: Project, home: Path) -> Iterator[Chain]:
    """The stack with that pipeline, reached from this process as its command `env` says."""
    write(project)
    forget()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (project.exports() | {"MLOPS_HOME": str(home)}).items():
            patch.setenv(name, value)
        settings.cache_clear()
        yield Chain(home, Airflow())
    forget()
