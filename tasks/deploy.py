"""Deploy: what serves a model is compared with its champion, and made so.

Started by a promotion, by a schedule and by `up`, so a rollback, an alias moved by hand, a reboot
and a lost event end the same way. Each step finds what an interrupted call left and goes on.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any

import httpx

from tasks.base.commands import typed
from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import settings
from tasks.clients import database, tracking
from tasks.clients.database import Connection
from tasks.pipeline.schema import Serving
from tasks.records import champion, ledger, registry
from tasks.serving import deployments, model_files, smoke
from tasks.serving.gateway import site, upstreams
from tasks.serving.targets.available import target_for, targets_in_use
from tasks.serving.targets.deployment import Deployment, Target

log = logging.getLogger(__name__)

GATEWAY_S = 10.0
"""What the gateway may take to show a new version: it looks for changed routes once a second."""


def reconcile(name: str, actor: str) -> dict[str, Any]:
    """Make the endpoint of a model serve its champion, and end the servers that nobody needs.

    Returns:
        `version` and `addresses` that serve now (None and none: no champion), whether this call
        `switched` the endpoint, and the versions of the servers that it `stopped`.

    Raises:
        RunFailedError: The champion's server does not start or fails the smoke test. What served
            before goes on serving.
        UnavailableError: PostgreSQL, the gateway or the Docker Engine does not answer.
    """
    champion.settle(name)
    with deployments.lock(name) as connection:
        version = registry.aliases(name).get(tracking.CHAMPION)
        serving = deployments.serving_of(name, version)
        target = target_for(serving)
        folder = settings().gateway_folder
        before = upstreams.current(folder, name)
        addresses: tuple[str, ...] = ()
        if version is None:
            upstreams.remove(folder, name)
        else:
            addresses = _serve(target, name, version, serving, connection)
        _record(name, version, actor, addresses, connection)
        stopped = _clean(name, version, serving, addresses)
    log.info("%s: %s serves on %s", name, f"version {version}" if version else "none", addresses)
    return {
        "version": version,
        "addresses": list(addresses),
        "switched": addresses != before,
        "stopped": stopped,
    }


def _serve(
    target: Target, name: str, version: int, serving: Serving, connection: Connection
) -> tuple[str, ...]:
    """Start or adopt the version's servers, test them, and send the endpoint's requests there."""
    folder = settings().gateway_folder
    deployment = target.start(name, version, serving)
    before = upstreams.current(folder, name)
    try:
        target.wait_ready(deployment, serving.start_timeout)
        smoke.check(deployment, model_files.fetch(name, version))
    except RunFailedError:
        new = tuple(one for one in deployment.addresses if one not in before)
        if new:
            target.stop(dataclasses.replace(deployment, addresses=new), drain_timeout=0)
        raise
    with connection.cursor() as cursor:
        cursor.execute("select 1")  # fails if the lock is lost: then somebody else is at it
    upstreams.switch(folder, name, deployment.addresses)
    with database.locked("routes"):  # or one model's would be written without another's newest
        site.write_routes(folder, site.routed(folder))
    _wait_for_gateway(deployment)
    return deployment.addresses


def _wait_for_gateway(deployment: Deployment) -> None:
    """Old servers may end only when the gateway is seen to use the new ones."""
    url = f"{settings().gateway_internal}/models/{deployment.name}"
    deadline = time.monotonic() + GATEWAY_S
    found = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/ping", timeout=5, trust_env=False)
        except httpx.TransportError as err:
            found = repr(err)
        else:
            found = f"status {answer.status_code}: {answer.text}"
            # MLflow's server does not say which it is; a switch is seen by the next request.
            version = str(deployment.version) if deployment.builder == "mlops" else None
            if answer.is_success and answer.headers.get("x-model-version") == version:
                return
        time.sleep(0.1)
    raise UnavailableError(
        f"The gateway does not show version {deployment.version} of {deployment.name}.",
        why=f"{url}: {found}",
        fix=f"Is the gateway up? {typed('status')}",
    )


def _record(
    name: str,
    version: int | None,
    actor: str,
    addresses: tuple[str, ...],
    connection: Connection,
) -> None:
    """Write the deployment to the ledger, once: also one that was interrupted before this."""
    last = next(iter(_deployed(name)), None)
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
        evidence={"addresses": list(addresses)},
        key=f"deployed:{name}:{version}:after:{last.id if last else 0}",
        connection=connection,
    )


def _deployed(name: str) -> list[ledger.Entry]:
    """The deployments on record, newest first."""
    return [one for one in ledger.history(name, 1000) if one.kind == "deployed"]


def _clean(
    name: str, champion: int | None, serving: Serving, addresses: tuple[str, ...]
) -> list[int]:
    """End the servers that nobody needs, and remove what was kept for versions of long ago.

    Needed are the servers behind the endpoint, and those of a challenger that may be promoted yet.
    """
    marks = registry.aliases(name)
    now = set() if champion is None else {champion}
    # The alias may have moved since: the next reconciliation finds the new champion's server.
    moved = {marks[tracking.CHAMPION]} if tracking.CHAMPION in marks else set()
    waiting = (_waiting(name, marks) | moved) - now
    keep = now | waiting | _kept(name, marks, serving.keep)
    stopped = set()
    for target in targets_in_use(serving):
        for server in target.list(name):
            if server.address not in addresses and server.version not in waiting:
                target.stop(server, serving.drain_timeout)
                stopped.add(server.version)
        target.clean(name, keep)
    return sorted(stopped)


def _waiting(name: str, marks: dict[str, int]) -> set[int]:
    """The challenger, if it passed the gate."""
    challenger = marks.get(tracking.CHALLENGER)
    entry = registry.version(name, challenger) if challenger is not None else None
    if entry is None:
        return set()
    number = int(entry.version)
    return {number} if registry.stage(number, marks, registry.passed(entry)) == "Staging" else set()


def _kept(name: str, marks: dict[str, int], number: int) -> set[int]:
    """The versions that served last and serve no more: `previous`, then the newest."""
    found = [marks.get(tracking.PREVIOUS), *(entry.to_version for entry in _deployed(name))]
    champion = marks.get(tracking.CHAMPION)
    old = dict.fromkeys(one for one in found if one is not None and one != champion)
    return set(list(old)[:number])
