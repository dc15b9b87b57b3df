"""What answers under each model's stable URL, found out without MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.errors import UnavailableError
from tasks.serving.process import ProcessTarget
from tasks.serving.targets import Deployment, ask
from tasks.settings import settings
from tasks.stack import gateway


@dataclass(frozen=True)
class Endpoint:
    """A model's stable URL and what is behind it."""

    url: str
    version: int | None
    state: Literal["running", "starting", "failed"]


def url(name: str) -> str:
    """The stable URL of a model; `/invocations`, `/ping` and `/version` follow."""
    return f"{settings().gateway_url}/models/{name}"


def endpoints() -> dict[str, Endpoint]:
    """Every model that was put behind the gateway, by name."""
    upstreams = settings().gateway_folder / "upstreams"
    names = sorted(path.name for path in upstreams.glob("[!.]*"))
    servers = {one.address: one for one in _servers()} if names else {}
    return {name: _endpoint(name, servers) for name in names}


def _endpoint(name: str, servers: dict[str, Deployment]) -> Endpoint:
    address = gateway.current(settings().gateway_folder, name) or ""
    server = servers.get(address)
    identity = ask(address, "/version") if address else None
    if identity and identity.get("name") == name:
        return Endpoint(url(name), identity["version"], "running")
    starting = server is not None and server.state == "starting"
    version = server.version if server else None
    return Endpoint(url(name), version, "starting" if starting else "failed")


def _servers() -> list[Deployment]:
    try:
        return ProcessTarget().list()
    except UnavailableError:  # the stack does not run, so nothing answers either
        return []
