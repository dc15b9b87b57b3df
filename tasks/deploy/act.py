"""Carries out what was decided."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import settings
from tasks.clients import database, tracking
from tasks.clients.database import Connection
from tasks.deploy.decide import Action, Observed, Record, Remove, Start, Stop, Switch, Withdraw
from tasks.records import ledger
from tasks.serving import endpoints, model_files, smoke
from tasks.serving.gateway import site, upstreams
from tasks.serving.targets.available import targets_in_use
from tasks.serving.targets.deployment import Deployment, Target

log = logging.getLogger(__name__)

GATEWAY_S = 10.0
"""How long the gateway may take to show a new version: it checks for new routes once a second."""


def carry_out(
    name: str, actor: str, observed: Observed, actions: Iterable[Action], connection: Connection
) -> list[int]:
    """Carry out the actions; returns the versions whose servers it stopped.

    Raises:
        RunFailedError: The champion's server does not start or fails the smoke test.
        UnavailableError: The gateway or the Docker Engine does not answer.
    """
    targets, serving = targets_in_use(observed.serving), observed.serving
    started: Deployment | None = None
    stopped = set()
    for action in actions:
        _check_lock(connection)
        match action:
            case Start(version):
                started = _start(targets[observed.target], name, version, observed)
            case Switch() if started:
                _switch(started)
            case Withdraw():
                upstreams.remove(settings().gateway_folder, name)
            case Record():
                _record(name, actor, observed, action, connection)
            case Stop(_, server) if started and server.address in started.addresses:
                continue  # adopted: its image was gone when the servers were compared
            case Stop() | Remove() if _moved(name, observed):
                break  # the next reconciliation needs the new champion's server
            case Stop(target, server):
                targets[target].stop(server, serving.drain_timeout)
                stopped.add(server.version)
            case Remove(target, keep):
                targets[target].clean(name, keep)
    return sorted(stopped)


def write_routes() -> None:
    """Write the gateway's routes and start page, where pipelines come and go."""
    folder = settings().gateway_folder
    with database.locked("routes"):  # two models at once could each miss the other's new route
        site.write_routes(folder, site.routed(folder))


def _check_lock(connection: Connection) -> None:
    """Fail if the lock's session is gone: then somebody else may be deploying."""
    with connection.cursor() as cursor:
        cursor.execute("select 1")


def _start(target: Target, name: str, version: int, observed: Observed) -> Deployment:
    """Start or adopt the version's servers and test them; new ones that fail are ended."""
    deployment = target.start(name, version, observed.serving)
    try:
        target.wait_ready(deployment, observed.serving.start_timeout)
        smoke.check(deployment, model_files.fetch(name, version))
    except RunFailedError:
        new = tuple(sorted({*deployment.addresses} - {*observed.routed}))
        if new:
            target.stop(dataclasses.replace(deployment, addresses=new), drain_timeout=0)
        raise
    return deployment


def _switch(deployment: Deployment) -> None:
    """Send the endpoint's requests to these servers.

    Old servers may end only after the gateway was seen to use the new ones.
    """
    upstreams.switch(settings().gateway_folder, deployment.name, deployment.addresses)
    write_routes()
    _wait_for_gateway(deployment)


def _wait_for_gateway(deployment: Deployment) -> None:
    deadline = time.monotonic() + GATEWAY_S
    while problem := endpoints.problem(deployment):
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"The gateway does not show version {deployment.version} of {deployment.name}.",
                why=problem,
                fix=f"Is the gateway up? {typed('status')}",
            )
        time.sleep(0.1)


def _record(
    name: str, actor: str, observed: Observed, record: Record, connection: Connection
) -> None:
    version = record.version
    ledger.append(
        kind="deployed",
        pipeline=name,
        actor=actor,
        from_version=record.previous,
        to_version=version,
        reason=f"version {version} is the champion" if version else "there is no champion",
        evidence={"addresses": list(upstreams.current(settings().gateway_folder, name))},
        key=f"deployed:{name}:{version}:after:{observed.ledger_row}",
        connection=connection,
    )


def _moved(name: str, observed: Observed) -> bool:
    """Whether the champion has changed since. MLflow has no compare-and-set: look just before."""
    champion = tracking.alias_version(name, tracking.CHAMPION)
    if champion != observed.champion:
        log.info("%s: the champion is now %s; no server is stopped", name, champion)
    return champion != observed.champion
