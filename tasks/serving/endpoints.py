"""What answers at each model's stable URL, without asking MLflow."""

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
    addresses = {name: upstreams.current(folder, name) for name in sorted(upstreams.names(folder))}
    answers = {name: _asked(name, addresses[name]) for name in addresses}
    servers = _servers() if None in answers.values() else {}
    return {
        name: endpoint or _listed(name, addresses[name], servers)
        for name, endpoint in answers.items()
    }


def problem(deployment: Deployment) -> str:
    """What the gateway answers instead of these servers; empty when it uses them."""
    import httpx

    ping_url = f"{settings().gateway_internal}/models/{deployment.name}/ping"
    try:
        answer = httpx.get(ping_url, timeout=5, trust_env=False)
    except httpx.TransportError as err:
        return f"{ping_url}: {err!r}"
    # MLflow's server does not name its version. A switch holds from the next request on.
    version = str(deployment.version) if deployment.builder == "mlops" else None
    if answer.is_success and answer.headers.get("x-model-version") == version:
        return ""
    return f"{ping_url}: status {answer.status_code}: {answer.text}"


def _asked(name: str, addresses: tuple[str, ...]) -> Endpoint | None:
    """What the servers themselves answer."""
    for address in addresses:
        identity = ask(address, "/version")
        if identity and identity.get("name") == name:
            return Endpoint(url(name), identity["version"], "running")
    return None


def _listed(name: str, addresses: tuple[str, ...], servers: Mapping[str, Deployment]) -> Endpoint:
    """What the target reports of servers that do not answer, or that are MLflow's: no version."""
    known = [servers[address] for address in addresses if address in servers]
    version = known[0].version if known else None
    # On the models' network, only models have an address.
    mlflow = any(server.builder == "mlflow" for server in known) or settings().docker_network
    if mlflow and any(pings(address) for address in addresses):
        return Endpoint(url(name), version, "running")
    starting = any(
        server.state == "starting" or (server.state == "running" and server.young)
        for server in known
    )
    return Endpoint(url(name), version, "starting" if starting else "failed")


def _servers() -> dict[str, Deployment]:
    servers: list[Deployment] = []
    for target in targets_in_use(Serving()).values():
        with suppress(UnavailableError):  # out of reach from here
            servers += target.list()
    return {server.address: server for server in servers}
