"""Deploy: make a model's endpoint serve its champion: observe, decide, act.

A promotion, a schedule and `up` start it. So a rollback, an alias moved by hand, a reboot and a
lost event all end the same way. So does an interrupted call: the next one observes what is left.
"""

from __future__ import annotations

import logging
from typing import Any

from tasks.base.errors import UnavailableError
from tasks.base.settings import settings
from tasks.deploy import act, decide, observe
from tasks.records import champion
from tasks.serving import deployments
from tasks.serving.gateway import upstreams

log = logging.getLogger(__name__)


def reconcile(name: str, actor: str) -> dict[str, Any]:
    """Make the endpoint of a model serve its champion, and end the servers that nobody needs.

    Returns:
        The model's `name`, the `version` and `addresses` that serve (None and empty without a
        champion), whether this call `switched` the endpoint, and the versions of the servers that
        it `stopped`.

    Raises:
        RunFailedError: The champion's server does not start or fails the smoke test. The previous
            servers go on serving.
        UnavailableError: PostgreSQL, the gateway or the Docker Engine does not answer.
    """
    champion.settle(name)
    with deployments.lock(name) as connection:
        observed = observe.read(name)
        actions = decide.actions(observed)
        stopped = act.carry_out(name, actor, observed, actions, connection)
        if observed.champion is not None:  # else the model would lose its route, and the 503 on it
            act.write_routes()
        addresses = upstreams.current(settings().gateway_folder, name)
    if observed.unreachable:
        raise UnavailableError(
            f"{name} is served, but what it no longer needs elsewhere was not removed.",
            why=observed.unreachable,
        )
    version = observed.champion
    log.info("%s: %s serves on %s", name, f"version {version}" if version else "none", addresses)
    return {
        "name": name,
        "version": version,
        "addresses": list(addresses),
        "switched": addresses != observed.routed,
        "stopped": stopped,
    }
