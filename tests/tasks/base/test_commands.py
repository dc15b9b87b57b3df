"""The command lines in messages."""

from __future__ import annotations

import pytest

from tasks.base.commands import typed
from tasks.base.settings import settings


@pytest.mark.parametrize(
    ("stack", "command", "line"),
    [
        ("embedded", "up", "./mlops up"),
        ("embedded", "run wine --wait", "./mlops run wine --wait"),
        ("compose", "up", "docker compose up -d --wait"),
        ("compose", "logs -f mlflow", "docker compose logs -f mlflow"),
        ("compose", "status", "docker compose run --rm cli status"),
        ("compose", "run wine --wait", "docker compose run --rm cli run wine --wait"),
    ],
)
def test_the_line_fits_the_stack(
    monkeypatch: pytest.MonkeyPatch, stack: str, command: str, line: str
) -> None:
    monkeypatch.setenv("MLOPS_STACK", stack)
    settings.cache_clear()
    try:
        assert typed(command) == line
    finally:
        monkeypatch.undo()
        settings.cache_clear()
