"""Whether the servers answer."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import psutil

from tasks.base.http import HOST, TIMEOUT_S, get


def listens(pid: int, port: int) -> bool:
    """Whether the process or a child of it listens on the port; another program might answer."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for member in family
            for connection in member.net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False


def postgres(dsn: str) -> bool:
    """Whether the server answers a query."""
    import psycopg2

    try:
        connection = psycopg2.connect(dsn, connect_timeout=int(TIMEOUT_S))
    except psycopg2.OperationalError:
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone() == (1,)
    except psycopg2.Error:
        return False
    finally:
        connection.close()


def store(port: int) -> bool:
    """Whether the store answers: it refuses an unsigned request."""
    answer = get(port, "/")
    return answer is not None and answer[0] // 100 == 4


def web(port: int, *, host: str = HOST) -> bool:
    """Whether MLflow or the gateway answers: both have the page `/health`."""
    answer = get(port, "/health", host=host)
    return answer is not None and answer[0] == HTTPStatus.OK


def airflow(port: int, *, host: str = HOST) -> dict[str, bool]:
    """The health of Airflow's parts, from its api-server; empty if that does not answer."""
    answer = get(port, "/api/v2/monitor/health", host=host)
    if answer is None or answer[0] != HTTPStatus.OK:
        return {}
    parts: dict[str, Any] = json.loads(answer[1])
    return {name: part.get("status") == "healthy" for name, part in parts.items()}


def all_parts(parts: dict[str, bool]) -> bool:
    """Whether Airflow answers and all its parts are healthy."""
    return bool(parts) and all(parts.values())
