"""Whether the servers really answer."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import psutil

from tasks.base.http import HOST, TIMEOUT_S, get


def listens(pid: int, port: int) -> bool:
    """Whether the process, or a child of it, listens on the port: others may answer there too."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for one in family
            for connection in one.net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False


def postgres(dsn: str) -> bool:
    """Whether a query is answered."""
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
    """Whether the store refuses a request that is not signed, as it must."""
    answer = get(port, "/")
    return answer is not None and answer[0] // 100 == 4


def mlflow(port: int, *, host: str = HOST) -> bool:
    """Whether MLflow answers."""
    return (answer := get(port, "/health", host=host)) is not None and answer[0] == HTTPStatus.OK


def gateway(port: int, *, host: str = HOST) -> bool:
    """Whether the gateway answers."""
    return (answer := get(port, "/health", host=host)) is not None and answer[0] == HTTPStatus.OK


def airflow(port: int, *, host: str = HOST) -> dict[str, bool]:
    """Health of Airflow's parts as its api-server tells it; empty when that does not answer."""
    answer = get(port, "/api/v2/monitor/health", host=host)
    if answer is None or answer[0] != HTTPStatus.OK:
        return {}
    parts: dict[str, Any] = json.loads(answer[1])
    return {name: part.get("status") == "healthy" for name, part in parts.items()}


def all_parts(parts: dict[str, bool]) -> bool:
    """Whether Airflow answers and every part of it is healthy."""
    return bool(parts) and all(parts.values())
