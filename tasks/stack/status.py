"""What runs of the stack that the settings name, and whether it answers."""

from __future__ import annotations

from tasks.base.settings import settings
from tasks.stack import compose
from tasks.stack.embedded import status as embedded
from tasks.stack.service import Service


def status() -> dict[str, Service]:
    """Every service, in the order in which people read them."""
    return compose.status() if settings().stack == "compose" else embedded.status()
