"""The gateway's configuration in Caddy's JSON: where each path leads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SLOTS = 12
"""Upstream files per model: 1, 2, 3, 4, 6 or 12 servers get equal shares of the requests."""
_TRY_S = 5
_PAGE_FILES = ("/", "/page.css", "/page.js", "/models.json")
_CONTENT_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'"
_NO_LOGIN = "MLflow has no login here. Set MLOPS_MLFLOW_LOGIN=on to open it to other machines.\n"
_DOWN = "This service does not answer at the moment. The start page / shows what runs.\n"
Json = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """Where the gateway listens and what is behind it."""

    listen: str
    plain: str
    """A second address, for tasks: only the models, never HTTPS."""
    domain: str
    tls: Literal["acme", "internal"]
    page: Path
    """Folder of the start page."""
    airflow: str
    mlflow: str
    """HOST:PORT of the two servers; empty for one that is missing."""
    mlflow_open: bool


def configuration(site: Site, upstreams: Mapping[str, Path]) -> Json:
    """The whole configuration; `upstreams` has each model's folder of upstream files."""
    models = [_answer({"path": ["/health"]}, 200, {"status": "ok"})]
    for name, folder in upstreams.items():
        models += [_slash(f"/models/{name}"), _model(name, folder)]
    unknown = {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "There is no model of this name here.",
    }
    missing = [_answer({}, 404, unknown)]
    servers = {"gateway": _server(site.listen, [*models, *_pages(site), *missing])}
    if site.plain:
        servers["plain"] = _server(site.plain, [*models, *missing])
    apps: Json = {"http": {"grace_period": "5s", "servers": servers}}
    if site.domain:
        _encrypt(apps, site)
    return {"admin": {"disabled": True, "config": {"persist": False}}, "apps": apps}


def _server(listen: str, routes: list[Json]) -> Json:
    down = {
        "error_code": "TEMPORARILY_UNAVAILABLE",
        "message": "No server of this model answers at the moment.",
    }
    failed = {"expression": "{http.error.status_code} in [502, 503, 504]"}
    return {
        "listen": [listen],
        "automatic_https": {"disable": True},
        "routes": routes,
        "errors": {
            "routes": [
                _answer({"path": ["/models/*"], **failed}, 503, down),
                _text(failed, 503, _DOWN),
            ]
        },
    }


def _encrypt(apps: Json, site: Site) -> None:
    """HTTPS on the published address; plain HTTP there is redirected to it."""
    apps["tls"] = {
        "certificates": {"automate": [site.domain]},
        "automation": {
            "policies": [{"subjects": [site.domain], "issuers": [{"module": site.tls}]}]
        },
    }
    if site.tls == "internal":
        # Install the root in no trust store: this is a container, or not the user's own machine.
        apps["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    port = int(site.listen.rpartition(":")[2])
    # The challenges of a public authority arrive on the HTTP port.
    apps["http"] |= {"https_port": port, "http_port": int(site.plain.rpartition(":")[2] or port)}
    apps["http"]["servers"]["gateway"] |= {
        "tls_connection_policies": [{}],
        "listener_wrappers": [{"wrapper": "http_redirect"}, {"wrapper": "tls"}],
    }


def _model(name: str, folder: Path) -> Json:
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{{file.{folder / str(slot)}}}"} for slot in range(SLOTS)],
        # Retries only what could not be delivered, never a POST that reached a server.
        "load_balancing": {
            "selection_policy": {"policy": "round_robin"},
            "try_duration": f"{_TRY_S}s",
            "try_interval": "100ms",
        },
        "transport": _transport("120s"),
    }
    return {
        "match": [{"path": [f"/models/{name}/*"]}],
        "handle": [{"handler": "rewrite", "strip_path_prefix": f"/models/{name}"}, proxy],
        "terminal": True,
    }


def _pages(site: Site) -> list[Json]:
    """The pages for people: the start page, Airflow and MLflow."""
    routes = [_start_page(site.page), _slash("/airflow"), _slash("/mlflow")]
    if site.airflow:
        # Airflow knows its prefix (`base_url`); MLflow's pages use only relative addresses.
        routes.append(_forward("/airflow/*", site.airflow, strip=""))
    if site.mlflow and site.mlflow_open:
        routes.append(_forward("/mlflow/*", site.mlflow, strip="/mlflow"))
    elif site.mlflow:
        routes.append(_text({"path": ["/mlflow/*"]}, 403, _NO_LOGIN))
    return routes


def _slash(path: str) -> Json:
    """Redirect a browser that left out a folder's slash."""
    # Never repeat the requested path: as //host it would lead elsewhere.
    return _static({"path": [path], "method": ["GET", "HEAD"]}, 302, {"Location": [f"{path}/"]})


def _start_page(folder: Path) -> Json:
    headers = {
        "Content-Security-Policy": [_CONTENT_POLICY],
        "X-Content-Type-Options": ["nosniff"],
        "Cache-Control": ["no-cache"],
    }
    return {
        "match": [{"path": list(_PAGE_FILES), "method": ["GET", "HEAD"]}],
        "handle": [
            {"handler": "headers", "response": {"set": headers}},
            {"handler": "file_server", "root": str(folder)},
        ],
        "terminal": True,
    }


def _forward(path: str, address: str, *, strip: str) -> Json:
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": address}],
        "transport": _transport("300s"),
    }
    rewrite = [{"handler": "rewrite", "strip_path_prefix": strip}] if strip else []
    return {"match": [{"path": [path]}], "handle": [*rewrite, proxy], "terminal": True}


def _transport(patience: str) -> Json:
    return {
        "protocol": "http",
        "dial_timeout": "2s",
        "response_header_timeout": patience,
        # Below the 5 s after which uvicorn closes: no request uses a connection that is closing.
        "keep_alive": {"idle_timeout": "4s"},
    }


def _answer(match: Json, status: int, body: dict[str, str]) -> Json:
    return _static(match, status, {"Content-Type": ["application/json"]}, json.dumps(body))


def _text(match: Json, status: int, body: str) -> Json:
    return _static(match, status, {"Content-Type": ["text/plain; charset=utf-8"]}, body)


def _static(match: Json, status: int, headers: Json, body: str = "") -> Json:
    handler = {"handler": "static_response", "status_code": str(status), "headers": headers}
    return {
        "match": [match] if match else [],
        "handle": [{**handler, "body": body}],
        "terminal": True,
    }
