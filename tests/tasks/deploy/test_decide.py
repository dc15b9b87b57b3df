"""What is decided for what was observed, without servers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.deploy import decide
from tasks.deploy.decide import Action, Observed, Record, Remove, Start, Stop, Switch, Withdraw
from tasks.pipeline.schema import Serving
from tasks.serving.targets.available import Kind
from tasks.serving.targets.deployment import Deployment

KINDS: tuple[Kind, ...] = get_args(Kind)


def server(version: int, port: int) -> Deployment:
    return Deployment("some", version, (f"127.0.0.1:{port}",), "running")


ONE, TWO, THREE = (server(version, 8000 + version) for version in (1, 2, 3))
SECOND_ONE = server(1, 9001)
SERVED = Observed(
    serving=Serving(keep=1),
    target="docker",
    champion=1,
    waiting=frozenset(),
    earlier=(),
    recorded=1,
    ledger_row=7,
    linked=True,
    routed=ONE.addresses,
    healthy=True,
    servers={"docker": (ONE,), "process": ()},
    surplus=frozenset(),
    stored={"docker": frozenset({1}), "process": frozenset()},
)
"""Version 1 serves, and nothing is due."""


def images(*versions: int | None) -> dict[Kind, frozenset[int | None]]:
    return {"docker": frozenset(versions), "process": frozenset()}


def remove(*keep: int) -> Remove:
    return Remove("docker", frozenset(keep))


def containers(*servers: Deployment) -> dict[Kind, tuple[Deployment, ...]]:
    return {"docker": servers, "process": ()}


CASES: dict[str, tuple[dict[str, Any], list[Action]]] = {
    "nothing is due": ({}, []),
    "a model that was never registered": (
        {"champion": None, "recorded": None, "linked": False, "routed": (), "healthy": False}
        | {"servers": containers(), "stored": images()},
        [],
    ),
    "a route that a kill left incomplete": (
        {"champion": None, "recorded": None, "routed": (), "healthy": False}
        | {"servers": containers(), "stored": images()},
        [Withdraw()],
    ),
    "the first champion": (
        {"recorded": None, "routed": (), "healthy": False}
        | {"servers": containers(), "stored": images()},
        [Start(1), Switch(1), Record(None, 1)],
    ),
    "a promoted version has a server from its build": (
        {"champion": 2, "healthy": False, "earlier": (1,)}
        | {"servers": containers(ONE, TWO), "stored": images(1, 2)},
        [Start(2), Switch(2), Record(1, 2), Stop("docker", ONE), remove(1, 2)],
    ),
    "the champion's server is stuck, or fails the smoke test": (
        {"healthy": False},
        [Start(1), Switch(1), remove(1)],
    ),
    "killed after the switch": (
        {"champion": 2, "earlier": (1,), "routed": TWO.addresses}
        | {"servers": containers(ONE, TWO), "stored": images(1, 2)},
        [Record(1, 2), Stop("docker", ONE), remove(1, 2)],
    ),
    "killed after the record": (
        {"champion": 2, "earlier": (1,), "recorded": 2, "routed": TWO.addresses}
        | {"servers": containers(ONE, TWO), "stored": images(1, 2)},
        [Stop("docker", ONE), remove(1, 2)],
    ),
    "other limits": (
        {"healthy": False, "surplus": frozenset(ONE.addresses)},
        [Start(1), Switch(1), Stop("docker", ONE), remove(1)],
    ),
    "a replica too many": (
        {"servers": containers(ONE, SECOND_ONE), "surplus": frozenset(SECOND_ONE.addresses)},
        [Stop("docker", SECOND_ONE), remove(1)],
    ),
    "the file asks for processes": (
        {"target": "process", "healthy": False},
        [Start(1), Switch(1), Stop("docker", ONE), remove(1)],
    ),
    "a challenger that passed the gate": (
        {"waiting": frozenset({2}), "servers": containers(ONE, TWO), "stored": images(1, 2)},
        [],
    ),
    "a rejected challenger": (
        {"servers": containers(ONE, TWO), "stored": images(1, 2)},
        [Stop("docker", TWO), remove(1)],
    ),
    "without a champion": (
        {"champion": None, "healthy": False, "earlier": (1,)},
        [Withdraw(), Record(1, None), Stop("docker", ONE), remove(1)],
    ),
    "without a champion, while a challenger waits": (
        {"champion": None, "recorded": None, "linked": False, "routed": (), "healthy": False}
        | {"waiting": frozenset({1})},
        [],
    ),
    "images of earlier versions, kept for a rollback": (
        {"earlier": (2, 3), "stored": images(1, 2)},
        [],
    ),
    "images of too many earlier versions": (
        {"earlier": (2, 3), "stored": images(1, 2, 3)},
        [remove(1, 2)],
    ),
    "leftovers of a killed build": ({"stored": images(1, None)}, [remove(1)]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_actions(case: str) -> None:
    changes, expected = CASES[case]
    assert decide.actions(replace(SERVED, **changes)) == expected


VERSIONS = st.integers(1, 4)


@st.composite
def observations(draw: st.DrawFn) -> Observed:
    """Any state that a kill, a person or a changed file can leave."""
    target = draw(st.sampled_from(KINDS))
    champion = draw(st.none() | VERSIONS)
    ports = count(8000)
    servers: dict[Kind, tuple[Deployment, ...]] = {
        # A supervisor has one server of a version.
        kind: tuple(
            server(version, next(ports))
            for version in draw(st.lists(VERSIONS, unique=kind == "process", max_size=6))
        )
        for kind in KINDS
    }
    own = [each.address for each in servers[target] if each.version == champion]
    surplus = draw(st.sets(st.sampled_from(own))) if own and target == "docker" else set()
    fitting = [address for address in own if address not in surplus]
    everywhere = [each.address for kind in KINDS for each in servers[kind]]
    healthy = bool(fitting) and draw(st.booleans())
    routes = st.lists(st.sampled_from([*everywhere, "127.0.0.1:1"]), max_size=3)
    return Observed(
        serving=Serving(
            replicas=max(1, len(fitting) if healthy else draw(st.integers(len(fitting) or 1, 6))),
            keep=draw(st.integers(0, 2)),
        ),
        target=target,
        champion=champion,
        waiting=frozenset(draw(st.sets(VERSIONS, max_size=1)) - {champion}),
        earlier=tuple(draw(st.lists(VERSIONS.filter(lambda v: v != champion), unique=True))),
        recorded=draw(st.none() | VERSIONS),
        ledger_row=draw(st.integers(0, 9)),
        linked=True,
        routed=tuple(fitting) if healthy else tuple(draw(routes)),
        healthy=healthy,
        servers=servers,
        surplus=frozenset(surplus),
        stored=images(*draw(st.sets(st.none() | VERSIONS))),
    )


def after(observed: Observed, actions: Iterable[Action]) -> Observed:
    """What is observed once the actions are carried out, and nothing else happened."""
    for action in actions:
        match action:
            case Start(version):
                observed = started(observed, version)
            case Switch(version):
                routed = [address for each in fitting(observed) for address in each.addresses]
                observed = replace(observed, linked=True, routed=tuple(routed), healthy=True)
            case Withdraw():
                observed = replace(observed, linked=False, routed=())
            case Record(_, version):
                observed = replace(observed, recorded=version)
            case Stop(kind, stopped):
                left = tuple(each for each in observed.servers[kind] if each != stopped)
                observed = replace(observed, servers={**observed.servers, kind: left})
            case Remove(kind, keep):
                kept = observed.stored[kind] & keep
                observed = replace(observed, stored={**observed.stored, kind: kept})
    return observed


def fitting(observed: Observed) -> list[Deployment]:
    """The champion's servers that run as the file asks."""
    return [
        each
        for each in observed.servers[observed.target]
        if each.version == observed.champion and each.address not in observed.surplus
    ]


def started(observed: Observed, version: int) -> Observed:
    """Containers are made up to the number of replicas; a process has one place."""
    docker = observed.target == "docker"
    missing = (observed.serving.replicas if docker else 1) - len(fitting(observed))
    new = [server(version, 10_000 + number) for number in range(missing)]
    servers = (*observed.servers[observed.target], *new)
    built = observed.stored["docker"] | ({version} if docker else set())
    return replace(
        observed,
        servers={**observed.servers, observed.target: servers},
        stored={**observed.stored, "docker": built},
    )


@given(observations())
def test_nothing_that_is_needed_is_stopped_or_removed(observed: Observed) -> None:
    actions = decide.actions(observed)
    needed = {*observed.waiting, observed.champion} - {None}
    switched = observed.champion is None or observed.healthy
    for action in actions:
        switched |= isinstance(action, Switch)
        if isinstance(action, Stop):
            assert switched
            assert action.server not in fitting(observed)
            assert action.server.version not in observed.waiting
        if isinstance(action, Remove):
            assert action.keep >= needed


@given(observations(), st.data())
def test_nothing_is_due_once_the_actions_are_carried_out(
    observed: Observed, data: st.DataObject
) -> None:
    actions = decide.actions(observed)
    killed = after(observed, actions[: data.draw(st.integers(0, len(actions)))])
    done = after(killed, decide.actions(killed))
    assert decide.actions(done) == []
    assert done.recorded == done.champion
    if done.champion is not None:
        assert {*done.routed} == {each.address for each in fitting(done)}
        assert len(done.routed) == (done.serving.replicas if done.target == "docker" else 1)
    else:
        assert done.routed == ()
    everywhere = [(kind, each) for kind in KINDS for each in done.servers[kind]]
    strays = [
        each
        for kind, each in everywhere
        if each.version not in done.waiting and each not in fitting(done)
    ]
    assert strays == []
    assert {*done.stored["docker"]} <= {
        *(done.waiting | {done.champion}),
        *done.earlier[: done.serving.keep],
    }
