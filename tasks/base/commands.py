"""The command lines that messages suggest, in the form that this stack needs."""

from __future__ import annotations

from tasks.base.settings import settings

_COMPOSE = {
    "up": "docker compose up -d --wait",
    "down": "docker compose down",
    "logs": "docker compose logs",
    "ps": "docker compose ps",
}


def typed(command: str) -> str:
    """What to type for `./mlops COMMAND` on this stack."""
    if settings().stack == "embedded":
        return f"./mlops {command}"
    first, _, rest = command.partition(" ")
    return f"{_COMPOSE.get(first, f'docker compose run --rm cli {first}')} {rest}".strip()
