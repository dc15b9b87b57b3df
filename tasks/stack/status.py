"""The state of the services of whichever stack the settings name."""

from __future__ import annotations

from tasks.base.settings import settings
from tasks.stack import compose
from tasks.stack.embedded import status as embedded
from tasks.stack.service import Service


def status() -> dict[str, Service]:
    """Every service, in display order."""
    return compose.status() if settings().stack == "compose" else embedded.status()
