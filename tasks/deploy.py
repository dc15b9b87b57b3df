"""Deploy: what serves a model is compared with its champion, and made so.

Started by a promotion, by a schedule and by `up`, so a rollback, an alias moved by hand, a reboot
and a lost event end the same way. Each step finds what an interrupted call left and goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg2

from tasks import database, ledger, plan, promote, registry, tracking
from tasks.database import Connection
from tasks.errors import RunFailedError, UnavailableError
from tasks.pipeline import load
from tasks.pipeline.schema import Serving
from tasks.serving import endpoints, models, smoke
from tasks.serving.process import ProcessTarget
from tasks.serving.targets import Deployment, Target
from tasks.settings import settings
from tasks.stack import gateway, ports
from tasks.stack.home import Home

log = logging.getLogger(__name__)

GATEWAY_S = 10.0
"""What the gateway may take to show a new version: it looks for changed routes once a second."""


def reconcile(name: str, actor: str) -> dict[str, Any]:
    """Make the endpoint of a model serve its champion, and end the servers that nobody needs.

    Returns:
        `version` and `address` that serve now (None: no champion), whether this call `switched`
        the endpoint, and the `stopped` versions.

    Raises:
        RunFailedError: The champion's server does not start or fails the smoke test. What served
            before goes on serving.
        UnavailableError: PostgreSQL or the gateway does not answer.
    """
    promote.settle(name)
    with lock(name) as connection:
        champion = registry.aliases(name).get(tracking.CHAMPION)
        serving = serving_of(name, champion)
        target: Target = ProcessTarget()
        if champion is None:
            switched = gateway.current(settings().gateway_folder, name) is not None
            gateway.remove(settings().gateway_folder, name)
            address = None
        else:
            address, switched = _serve(target, name, champion, serving, connection)
        _record(name, champion, actor, address, connection)
        stopped = _stop_others(target, name, champion, serving.drain_timeout)
    log.info("%s: %s serves on %s", name, f"version {champion}" if champion else "nothing", address)
    return {"version": champion, "address": address, "switched": switched, "stopped": stopped}


@contextmanager
def lock(name: str) -> Iterator[Connection]:
    """The advisory lock under which a model's servers are started and stopped.

    Raises:
        UnavailableError: The lock was lost on the way.
    """
    try:
        with database.locked(f"deploy/{name}") as connection:
            yield connection
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as err:
        raise UnavailableError(
            f"PostgreSQL went away while {name} was being deployed.", why=str(err).strip()
        ) from err


def serving_of(name: str, version: int | None) -> Serving:
    """The serving section of the pipeline as it was when the version was made."""
    entry = registry.version(name, version) if version is not None else None
    uri = entry.tags.get(tracking.PIPELINE) if entry else None
    return plan.read(uri).serving if uri else Serving()


def _serve(
    target: Target, name: str, version: int, serving: Serving, connection: Connection
) -> tuple[str, bool]:
    """Start or adopt the version's server, test it, and send the endpoint's requests to it."""
    folder = settings().gateway_folder
    deployment = target.start(name, version)
    before = gateway.current(folder, name)
    try:
        target.wait_ready(deployment, serving.start_timeout)
        smoke.check(deployment, models.fetch(name, version))
    except RunFailedError:
        if deployment.address != before:
            target.stop(deployment, drain_timeout=0)
        raise
    with connection.cursor() as cursor:
        cursor.execute("select 1")  # fails if the lock is lost: then somebody else is at it
    gateway.switch(folder, name, deployment.address)
    gateway.write_routes(folder, ports.load(Home.of_settings()).gateway, _routed(name))
    _wait_for_gateway(deployment)
    return deployment.address, deployment.address != before


def _routed(name: str) -> set[str]:
    """Models that have a route: every pipeline's, and any other that ever served."""
    upstreams = settings().gateway_folder / "upstreams"
    return {name, *load.names(), *(path.name for path in upstreams.glob("[!.]*"))}


def _wait_for_gateway(deployment: Deployment) -> None:
    """Old servers may end only when the gateway is seen to use the new one."""
    url = f"{endpoints.url(deployment.name)}/version"
    deadline = time.monotonic() + GATEWAY_S
    found = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, timeout=5, trust_env=False)
        except httpx.TransportError as err:
            found = repr(err)
        else:
            found = f"status {answer.status_code}: {answer.text}"
            if answer.headers.get("x-model-version") == str(deployment.version):
                return
        time.sleep(0.1)
    raise UnavailableError(
        f"The gateway does not show version {deployment.version} of {deployment.name}.",
        why=f"{url}: {found}",
        fix="Is the gateway up? ./mlops status",
    )


def _record(
    name: str, version: int | None, actor: str, address: str | None, connection: Connection
) -> None:
    """Write the deployment to the ledger, once: also one that was interrupted before this."""
    last = next((one for one in ledger.history(name, 1000) if one.kind == "deployed"), None)
    before = last.to_version if last else None
    if before == version:
        return
    ledger.append(
        kind="deployed",
        pipeline=name,
        actor=actor,
        from_version=before,
        to_version=version,
        reason=f"version {version} is the champion" if version else "there is no champion",
        evidence={"address": address},
        key=f"deployed:{name}:{version}:after:{last.id if last else 0}",
        connection=connection,
    )


def _stop_others(
    target: Target, name: str, champion: int | None, drain_timeout: float
) -> list[int]:
    """End every server but the champion's and that of a challenger which may be promoted yet."""
    marks = registry.aliases(name)
    keep = {champion}
    challenger = marks.get(tracking.CHALLENGER)
    entry = registry.version(name, challenger) if challenger is not None else None
    if entry and registry.stage(int(entry.version), marks, registry.passed(entry)) == "Staging":
        keep.add(challenger)
    stopped = []
    for deployment in target.list(name):
        if deployment.version not in keep:
            target.stop(deployment, drain_timeout)
            stopped.append(deployment.version)
    return stopped
