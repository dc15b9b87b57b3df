"""One HTTP request to a server that may not answer."""

from __future__ import annotations

import http.client

HOST = "127.0.0.1"
TIMEOUT_S = 3.0


def get(
    port: int, path: str, *, host: str = HOST, timeout: float = TIMEOUT_S
) -> tuple[int, bytes] | None:
    """Status and body of a GET, by default on this machine; `None` when nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
