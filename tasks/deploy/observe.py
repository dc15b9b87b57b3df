"""One reading of everything that a deployment depends on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.settings import settings
from tasks.clients import tracking
from tasks.deploy.decide import Observed
from tasks.records import ledger, registry
from tasks.serving import deployments, endpoints, model_files, smoke
from tasks.serving.gateway import upstreams
from tasks.serving.targets.available import Kind, kind_of, targets_in_use
from tasks.serving.targets.deployment import Comparison, Deployment, Target

log = logging.getLogger(__name__)


def read(name: str) -> Observed:
    """Read the registry, the pipeline file, the ledger, the servers and the gateway."""
    aliases = registry.aliases(name)
    champion = aliases.get(tracking.CHAMPION)
    serving = deployments.serving_of(name, champion)
    targets = targets_in_use(serving)
    kind = kind_of(serving)
    compared = Comparison(None)
    if champion is not None:
        compared = targets[kind].compare(name, champion, serving)
    routed = upstreams.current(settings().gateway_folder, name)
    deployed = [entry for entry in ledger.history(name, 1000) if entry.kind == "deployed"]
    versions = [aliases.get(tracking.PREVIOUS), *(entry.to_version for entry in deployed)]
    earlier = dict.fromkeys(version for version in versions if version and version != champion)
    servers, stored, unreachable = _held(name, kind, targets)
    return Observed(
        serving=serving,
        target=kind,
        champion=champion,
        waiting=_waiting(name, aliases),
        earlier=tuple(earlier),
        recorded=deployed[0].to_version if deployed else None,
        ledger_row=deployed[0].id if deployed else 0,
        linked=name in upstreams.names(settings().gateway_folder),
        routed=routed,
        healthy=_healthy(compared.running, routed),
        servers=servers,
        surplus=compared.surplus,
        stored=stored,
        unreachable=unreachable,
    )


def _held(
    name: str, wanted: Kind, targets: Mapping[Kind, Target]
) -> tuple[dict[Kind, tuple[Deployment, ...]], dict[Kind, frozenset[int | None]], str]:
    """The servers and images of each target; and why one, other than the wanted, did not answer."""
    servers: dict[Kind, tuple[Deployment, ...]] = {}
    stored: dict[Kind, frozenset[int | None]] = {}
    unreachable = ""
    for kind, target in targets.items():
        try:
            servers[kind], stored[kind] = tuple(target.list(name)), target.stored(name)
        except UnavailableError as err:
            if kind == wanted:
                raise
            unreachable = str(err)
    return servers, stored, unreachable


def _waiting(name: str, aliases: dict[str, int]) -> frozenset[int]:
    """The challenger, if it passed the gate."""
    challenger = aliases.get(tracking.CHALLENGER)
    entry = registry.version(name, challenger) if challenger is not None else None
    if challenger is None or entry is None:
        return frozenset()
    stage = registry.stage(challenger, aliases, registry.passed(entry))
    return frozenset({challenger} if stage == "Staging" else ())


def _healthy(running: Deployment | None, routed: tuple[str, ...]) -> bool:
    """Whether these servers are behind the endpoint, pass the smoke test and are shown there."""
    if running is None or {*running.addresses} != {*routed} or not running.answers():
        return False
    try:
        smoke.check(running, model_files.fetch(running.name, running.version))
    except RunFailedError as err:
        log.warning("%s", err)
        return False
    return not endpoints.problem(running)
