"""What answers under each model's stable URL, found out without MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from tasks.base.errors import UnavailableError
from tasks.base.settings import settings
from tasks.pipeline.schema import Serving
from tasks.serving.gateway import upstreams
from tasks.serving.targets.available import targets_in_use
from tasks.serving.targets.deployment import Deployment, ask, pings


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
    folder = settings().gateway_folder
    names = sorted(upstreams.names(folder))
    addresses = {name: upstreams.current(folder, name) for name in names}
    found = {name: _asked(name, addresses[name]) for name in names}
    servers = {one.address: one for one in _servers()} if None in found.values() else {}
    return {name: one or _listed(name, addresses[name], servers) for name, one in found.items()}


def _asked(name: str, addresses: tuple[str, ...]) -> Endpoint | None:
    """What the servers say themselves."""
    for address in addresses:
        identity = ask(address, "/version")
        if identity and identity.get("name") == name:
            return Endpoint(url(name), identity["version"], "running")
    return None


def _listed(name: str, addresses: tuple[str, ...], servers: Mapping[str, Deployment]) -> Endpoint:
    """What their target says of servers that do not answer, or are MLflow's and say no version."""
    known = [servers[address] for address in addresses if address in servers]
    version = known[0].version if known else None
    # On the models' network, nothing but a model has an address.
    mlflow = any(one.builder == "mlflow" for one in known) or settings().docker_network
    if mlflow and any(pings(address) for address in addresses):
        return Endpoint(url(name), version, "running")
    starting = any(
        server.state == "starting" or (server.state == "running" and server.young)
        for server in known
    )
    return Endpoint(url(name), version, "starting" if starting else "failed")


def _servers() -> list[Deployment]:
    found: list[Deployment] = []
    for target in targets_in_use(Serving()):
        with suppress(UnavailableError):  # out of reach from here
            found += target.list()
    return found
