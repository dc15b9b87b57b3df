"""Writes the gateway's configuration and start page, from the pipelines and the settings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from tasks.base import files
from tasks.base.settings import settings
from tasks.pipeline import load
from tasks.serving.gateway import caddy, upstreams
from tasks.stack.embedded import ports
from tasks.stack.embedded.home import Home

_PAGE = Path(__file__).with_name("page")


def write_routes(folder: Path, names: Iterable[str]) -> bool:
    """Write the page and the configuration for these models; Caddy notices changes itself.

    Returns:
        Whether the configuration changed.
    """
    models = sorted(set(names))
    (folder / "upstreams").mkdir(parents=True, exist_ok=True)
    (folder / "page").mkdir(exist_ok=True)
    for file in _PAGE.iterdir():
        files.replace(folder / "page" / file.name, file.read_text(encoding="utf-8"))
    files.replace(folder / "page" / "models.json", json.dumps(models))
    links = {name: upstreams.link_of(folder, name) for name in models}
    text = json.dumps(caddy.configuration(_site(folder), links), indent=1)
    return files.replace(folder / "caddy.json", text)


def routed(folder: Path) -> set[str]:
    """Models that have a route: those of all pipelines, and any other that ever served."""
    return {*load.names(), *upstreams.names(folder)}


def _site(folder: Path) -> caddy.Site:
    config = settings()
    listen = config.gateway_listen or f"127.0.0.1:{ports.load(Home.of_settings()).gateway}"
    return caddy.Site(
        listen=listen,
        plain=config.gateway_plain,
        domain=config.domain,
        tls=config.tls,
        page=folder / "page",
        airflow=urlsplit(config.airflow_url).netloc,
        mlflow=urlsplit(config.tracking_uri).netloc,
        mlflow_open=config.mlflow_login or not (config.domain or _is_open(config.bind)),
    )


def _is_open(address: str) -> bool:
    """Whether other machines reach what listens on this address."""
    return not ip_address(address).is_loopback
