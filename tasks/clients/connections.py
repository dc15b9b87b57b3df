"""Airflow's connections in the format of its environment variables: a URI or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from tasks.base.errors import UserError
from tasks.base.settings import airflow_connection, connection_variable


class UnknownConnectionError(UserError):
    """The connection does not exist where this runs."""


Lookup = Callable[[str], str | None]
"""From a connection's name to its URI or JSON; None if it does not exist."""


class Connection(BaseModel):
    """Where a server is and how to log in."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    name: str
    kind: str = Field("", alias="conn_type")
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: SecretStr | None = None
    database: str | None = Field(None, alias="schema")
    extra: dict[str, Any] = Field({}, repr=False)

    @field_validator("extra", mode="before")
    @classmethod
    def _decoded(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) and value else value or {}

    def option(self, name: str) -> str | None:
        """A text of `extra`; None if it is missing or empty."""
        value = self.extra.get(name)
        return None if value in (None, "") else str(value)


def find(name: str, kinds: frozenset[str], lookup: Lookup = airflow_connection) -> Connection:
    """The connection of this name, which must be of one of these kinds or name no kind.

    Raises:
        UnknownConnectionError: It does not exist.
        UserError: It is of another kind, or cannot be read.
    """
    text = lookup(name)
    if not text:
        raise UnknownConnectionError(
            f"There is no connection {name!r}.",
            fix=f"Add it in Airflow (Admin, Connections), or set the variable "
            f"{connection_variable(name)} to its URI or JSON where this runs.",
        )
    try:
        connection = Connection(**({**_fields(text), "name": name}))
    except (ValueError, ValidationError):
        # Neither shown nor kept as the cause: the reason quotes the text with its password.
        raise UserError(
            f"The connection {name!r} cannot be read.",
            why="It is neither a URI, kind://login:password@host:port/schema?key=value, nor JSON.",
            fix="In a URI, write special characters of a password as %40 and the like.",
        ) from None
    if connection.kind not in kinds | {"", "generic"}:
        raise UserError(
            f"The connection {name!r} must be of type {' or '.join(sorted(kinds))}. "
            f"Got {connection.kind!r} instead."
        )
    return connection


def _fields(text: str) -> dict[str, Any]:
    """The fields of a connection, by Airflow's names."""
    if text.lstrip().startswith("{"):
        return dict(json.loads(text))
    parts = urlsplit(text)
    if not parts.scheme or "://" not in text:
        raise ValueError
    extra: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "conn_type": parts.scheme,
        "host": unquote(parts.hostname or "") or None,
        "port": parts.port,
        "login": unquote(parts.username or "") or None,
        "password": unquote(parts.password or "") or None,
        "schema": unquote(parts.path[1:]) or None,
        "extra": extra.get("__extra__", extra),
    }
