"""What a model's endpoint answers, and what the ledger has of its versions."""

from __future__ import annotations

import httpx

from tasks.base.settings import settings
from tasks.records import ledger


def served(name: str, gateway: str = "") -> int | None:
    """The version that the endpoint answers with, behind the settings' gateway or another one."""
    try:
        url = f"{gateway or settings().gateway_url}/models/{name}/version"
        answer = httpx.get(url, timeout=10)
    except httpx.TransportError:  # a server that is starting lets its clients wait
        return None
    return answer.json()["version"] if answer.is_success else None


def kinds(name: str) -> list[str]:
    """The ledger's entries, oldest first."""
    return [entry.kind for entry in reversed(ledger.history(name, 10))]
