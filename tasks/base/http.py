"""HTTP requests to servers that may not answer."""

from __future__ import annotations

import http.client

HOST = "127.0.0.1"
TIMEOUT_S = 3.0


def get(port: int, path: str, *, host: str = HOST) -> tuple[int, bytes] | None:
    """Status and body of a GET request; `None` if the server does not answer."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
