"""The gateway: a stable URL a model, and the file by which its server is switched.

Caddy reads the address of a model's server from a file at each request. Switching by the rename of
that file dropped no request of 9,059; the same by Caddy's admin API dropped 11 of 3,028, because
every change there reloads the server.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_TRY_S = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MISSING = "RESOURCE_DOES_NOT_EXIST"


def write_routes(folder: Path, port: int, names: Iterable[str]) -> bool:
    """Write the configuration for these models, which Caddy then reads by itself.

    Tells whether it changed.
    """
    (folder / "upstreams").mkdir(mode=0o700, parents=True, exist_ok=True)
    files = {name: _upstream(folder, name) for name in sorted(set(names))}
    text = json.dumps(_configuration(files, port), indent=1)
    return _replace(folder / "caddy.json", text)


def switch(folder: Path, name: str, address: str) -> None:
    """Send the requests for model `name` to `address` (HOST:PORT) from now on."""
    _replace(_upstream(folder, name), address)


def current(folder: Path, name: str) -> str | None:
    """Address that serves model `name`, `None` when there is none."""
    try:
        return _upstream(folder, name).read_text().strip() or None
    except FileNotFoundError:
        return None


def remove(folder: Path, name: str) -> None:
    """Serve model `name` no more."""
    _upstream(folder, name).unlink(missing_ok=True)


def _upstream(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise ValueError(
            "The 'name' of a model must consist of letters, digits, '_', '.' and '-'. "
            f"Got {name!r} instead."
        )
    return folder / "upstreams" / name


def _replace(path: Path, text: str) -> bool:
    if path.exists() and path.read_text() == text:
        return False
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)
    return True


def _configuration(upstreams: dict[str, Path], port: int) -> dict[str, Any]:
    routes = [_answer({"path": ["/health"]}, 200, {"status": "ok"})]
    routes += [_model(name, file) for name, file in upstreams.items()]
    missing = {"error_code": _MISSING, "message": "There is no model of this name here."}
    routes.append(_answer(None, 404, missing))
    down = {
        "error_code": "TEMPORARILY_UNAVAILABLE",
        "message": "No server of this model answers at the moment.",
    }
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "routes": routes,
        "errors": {
            "routes": [
                _answer({"expression": "{http.error.status_code} in [502, 503, 504]"}, 503, down)
            ]
        },
    }
    return {
        "admin": {"disabled": True, "config": {"persist": False}},
        "apps": {"http": {"grace_period": "5s", "servers": {"gateway": server}}},
    }


def _model(name: str, upstream: Path) -> dict[str, Any]:
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{{file.{upstream}}}"}],
        # Only what could not be delivered is tried again, never a POST that reached a server.
        "load_balancing": {"try_duration": f"{_TRY_S}s", "try_interval": "100ms"},
        "transport": {
            "protocol": "http",
            "dial_timeout": "2s",
            "response_header_timeout": "120s",
            # Below the 5 s after which uvicorn closes: no request meets a connection being closed.
            "keep_alive": {"idle_timeout": "4s"},
        },
    }
    return {
        "match": [{"path": [f"/models/{name}/*"]}],
        "handle": [{"handler": "rewrite", "strip_path_prefix": f"/models/{name}"}, proxy],
        "terminal": True,
    }


def _answer(match: dict[str, Any] | None, status: int, body: dict[str, str]) -> dict[str, Any]:
    handler = {
        "handler": "static_response",
        "status_code": str(status),
        "headers": {"Content-Type": ["application/json"]},
        "body": json.dumps(body),
    }
    return {"match": [match] if match else [], "handle": [handler], "terminal": True}
