"""Which actions lead from what was observed to what should be: a pure function, without a server.

Each action may be repeated. Whatever interrupts them, the next reconciliation observes what is left
and decides anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.pipeline.schema import Serving
from tasks.serving.targets.available import Kind
from tasks.serving.targets.deployment import Deployment


@dataclass(frozen=True)
class Observed:
    """One reading of a model's aliases, file, ledger, servers, images and endpoint."""

    serving: Serving
    """What the pipeline file asks for."""
    target: Kind
    """Where it asks for the servers."""
    champion: int | None
    waiting: frozenset[int]
    """A challenger that passed the gate, and so may become champion."""
    earlier: tuple[int, ...]
    """Versions to keep for a rollback, best first: `previous`, then those that served last."""
    recorded: int | None
    """The version of the last deployment in the ledger."""
    ledger_row: int
    """The id of that row; 0 without one."""
    linked: bool
    """Whether the gateway has a route for the model, complete or not."""
    routed: tuple[str, ...]
    """Addresses behind the endpoint."""
    healthy: bool
    """Whether the champion's servers run as the file asks, pass the smoke test and are what the
    gateway shows."""
    servers: Mapping[Kind, tuple[Deployment, ...]]
    surplus: frozenset[str]
    """Addresses of the champion's servers that run otherwise than the file asks."""
    stored: Mapping[Kind, frozenset[int | None]]
    """Versions that have an image; None: leftovers of killed builds."""
    unreachable: str = ""
    """Why a target that the file does not ask for could not be observed."""


@dataclass(frozen=True)
class Start:
    """Start the version's servers, or adopt those that run, and test them."""

    version: int


@dataclass(frozen=True)
class Switch:
    """Send the endpoint's requests to the started servers, and see that the gateway does."""

    version: int


@dataclass(frozen=True)
class Withdraw:
    """Remove the endpoint."""


@dataclass(frozen=True)
class Record:
    """Write to the ledger which version serves."""

    previous: int | None
    version: int | None


@dataclass(frozen=True)
class Stop:
    """Drain and end a server."""

    target: Kind
    server: Deployment


@dataclass(frozen=True)
class Remove:
    """Remove what a target stores for other versions than these."""

    target: Kind
    keep: frozenset[int]


Action = Start | Switch | Withdraw | Record | Stop | Remove


def actions(observed: Observed) -> list[Action]:
    """The actions that are due, in order; none when everything is as it should be."""
    changes = [*_route(observed), *_record(observed), *_stop(observed)]
    return [*changes, *_remove(observed, at_work=bool(changes))]


def _route(observed: Observed) -> list[Action]:
    if observed.champion is None:
        return [Withdraw()] if observed.linked else []
    if observed.healthy:
        return []
    return [Start(observed.champion), Switch(observed.champion)]


def _record(observed: Observed) -> list[Action]:
    """Also a deployment that was interrupted before it was recorded."""
    if observed.recorded == observed.champion:
        return []
    return [Record(observed.recorded, observed.champion)]


def _stop(observed: Observed) -> list[Action]:
    """Servers other than the champion's, and other than those of a challenger that waits."""
    return [
        Stop(target, server)
        for target, servers in observed.servers.items()
        for server in servers
        if server.version not in observed.waiting
        if not _serves(observed, target, server)
    ]


def _serves(observed: Observed, target: Kind, server: Deployment) -> bool:
    """Whether it is one of the champion's servers, as the file asks for them."""
    return (server.version, target) == (observed.champion, observed.target) and (
        server.address not in observed.surplus
    )


def _remove(observed: Observed, *, at_work: bool) -> list[Action]:
    """Images beyond `serving.keep`; other actions may free one, so look after them as well."""
    champion = {observed.champion} if observed.champion is not None else set()
    keep = champion | observed.waiting | {*observed.earlier[: observed.serving.keep]}
    return [
        Remove(target, frozenset(keep))
        for target, versions in observed.stored.items()
        if versions - keep or (versions and at_work)
    ]
