"""What is ours, and the tables of all that is allowed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules import (
    UNSET_OPTION,
    Denied,
    Rule,
    Table,
    each,
    fields,
    flag,
    one_of,
    pairs,
    parse_json,
    several,
    text,
    whole,
    within,
)

PROJECT, COMPOSE = "mlops.project", "com.docker.compose."


@dataclass(frozen=True)
class Own:
    """What is ours, and how much there may be of it: CPUs, bytes, processes, containers."""

    project: str
    network: str
    socket: str = "/var/run/docker.sock"
    listen: str = ":2375"
    prefix: str = "mlops"
    bases: tuple[str, ...] = ("python:3.11-slim",)
    cpus: float = 2
    memory: int = 2 << 30
    pids: int = 512
    containers: int = 32

    def owns(self, labels: Mapping[str, str] | None) -> bool:
        """Whether these labels make a container or image ours; compose's own services never are."""
        found = labels or {}
        service = found.get(f"{COMPOSE}service", "model-")
        return found.get(PROJECT) == self.project and service.startswith("model-")

    def owns_image(self, labels: Mapping[str, str] | None, names: Sequence[str]) -> bool:
        """Whether an image is ours by its labels and by all of its names."""
        ours = (f"{self.prefix}/", "<none>")
        return self.owns(labels) and all(name.startswith(ours) for name in names)


def own_of(environment: Mapping[str, str]) -> Own:
    """From the variables that filter.py lists; exits when one is missing or wrong."""
    kinds: dict[str, tuple[str, Callable[[str], Any]]] = {
        "FILTER_PROJECT": ("project", str),
        "FILTER_NETWORK": ("network", str),
        "FILTER_SOCKET": ("socket", str),
        "FILTER_LISTEN": ("listen", str),
        "FILTER_PREFIX": ("prefix", str),
        "FILTER_BASES": ("bases", lambda value: tuple(value.split())),
        "FILTER_MAX_CPUS": ("cpus", float),
        "FILTER_MAX_MEMORY": ("memory", _bytes),
        "FILTER_MAX_PIDS": ("pids", int),
        "FILTER_MAX_CONTAINERS": ("containers", int),
    }
    found: dict[str, Any] = {}
    for variable, (name, kind) in kinds.items():
        value = environment.get(variable)
        try:
            if value:
                found[name] = kind(value)
        except ValueError:
            sys.exit(f"filter: {variable}={value!r} is not an amount")
    if not {"project", "network"} <= found.keys():
        sys.exit("filter: FILTER_PROJECT and FILTER_NETWORK must be set")
    return Own(**found)


def _bytes(value: str) -> int:
    match = re.fullmatch(r"([0-9]+)([kmg]?)b?", value.lower())
    if not match:
        raise ValueError(value)
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


# ---- Values.

WORDS = text(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*", "text in one line")
SIGNAL = text(r"(SIG)?[A-Z]{1,10}[0-9+]*|[0-9]{1,2}")
TIME = text(r"[0-9TZ:.+-]{0,40}")
BOOLEAN = one_of(True, False)
ALIAS = text(r"model-[a-z0-9_.-]+")
"""Another name could answer for a service of the stack: one name space for all networks."""
REFERENCE = r"[A-Za-z0-9][A-Za-z0-9_./:@-]*"
OWN_LABELS: Table = {r"mlops\.[a-z0-9_.-]+": WORDS, r"org\.opencontainers\.[a-z0-9_.-]+": WORDS}


def tag_rule(own: Own) -> Rule:
    """The name of an image of ours."""
    name = r"/[a-z0-9]+([._-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    return text(re.escape(own.prefix) + name, f"{own.prefix}/NAME:TAG")


def label_table(own: Own) -> Table:
    """The labels that a container may carry."""
    return {
        re.escape(PROJECT): one_of(own.project),
        **OWN_LABELS,
        r"[A-Za-z0-9_-]{1,63}": WORDS,  # a user's own: programs that heed labels use dotted ones
        re.escape(f"{COMPOSE}project"): one_of(own.project),
        re.escape(f"{COMPOSE}service"): text(r"model-[a-z0-9_.-]+"),
        re.escape(f"{COMPOSE}oneoff"): one_of("False"),
        re.escape(f"{COMPOSE}container-number"): text(r"[0-9]{1,4}"),
        re.escape(COMPOSE) + "(config-hash|version|image)": text(r"[A-Za-z0-9_.:/-]{0,256}"),
    }


# ---- The body of containers/create.

TMPFS = text(r"((size=[1-9][0-9]{0,9}[kmg]?|mode=1?[0-7]{3}),?)*")
ROTATED = fields(
    must={"max-size": text(r"[1-9][0-9]?m|100m|[1-9][0-9]{0,4}k"), "max-file": text(r"[1-9]")}
)


def host_rule(own: Own) -> Rule:
    """HostConfig."""
    return fields(
        must={
            "NetworkMode": one_of(own.network),
            "Memory": whole(6 << 20, own.memory),
            "NanoCpus": whole(1, own.cpus * 1e9),
            "PidsLimit": whole(1, own.pids),
            "ReadonlyRootfs": one_of(True),
            "CapDrop": one_of(["ALL"]),
            "SecurityOpt": one_of(["no-new-privileges:true"], ["no-new-privileges"]),
            "LogConfig": fields(must={"Type": one_of("json-file", "local"), "Config": ROTATED}),
        },
        may={
            "MemorySwap": whole(0, own.memory),
            "Init": BOOLEAN,
            "Tmpfs": pairs({"/tmp": TMPFS}),  # noqa: S108 - the container's own
            "RestartPolicy": fields(
                must={"Name": one_of("", "no", "on-failure", "unless-stopped")},
                may={"MaximumRetryCount": whole(0, 100)},
            ),
        },
        always={"IpcMode": "private", "CgroupnsMode": "private"},
    )


def create_rule(own: Own) -> Rule:
    """The whole body."""
    rule = fields(
        must={
            "Image": text(REFERENCE),
            "User": text(r"[1-9][0-9]{0,9}(:[0-9]{1,10})?", "UID or UID:GID, not root"),
            "Labels": pairs(label_table(own), (PROJECT, f"{COMPOSE}project", f"{COMPOSE}service")),
            "HostConfig": host_rule(own),
        },
        may={
            "Env": each(text(r"[^=\0]+=[^\0]*", "NAME=value")),
            "AttachStdout": BOOLEAN,
            "AttachStderr": BOOLEAN,
            "NetworkingConfig": fields(
                may={
                    "EndpointsConfig": fields(
                        may={own.network: fields(may={"Aliases": each(ALIAS)})}
                    )
                }
            ),
        },
    )

    def without_swap(what: str, given: Any) -> dict[str, Any]:
        checked: dict[str, Any] = rule(what, given)
        host = checked["HostConfig"]
        if host.get("MemorySwap") not in (None, 0, host["Memory"]):
            raise Denied(
                "HostConfig.MemorySwap", host["MemorySwap"], f"{host['Memory']}, as Memory"
            )
        host["MemorySwap"] = host["Memory"]
        return checked

    return without_swap


# ---- Endpoints.


@dataclass(frozen=True)
class Endpoint:
    """An endpoint: its methods, its path with {container} or {image}, its options, what is done."""

    methods: str
    path: str
    options: Rule
    kind: str = "relay"

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The names in the path, when this endpoint is meant."""
        names = {
            "container": r"(?P<container>[A-Za-z0-9][A-Za-z0-9_.-]*)",
            "image": r"(?P<image>[A-Za-z0-9][A-Za-z0-9_.:@-]*(?:/[A-Za-z0-9_.:@-]+)*)",
        }
        found = re.fullmatch(self.path.format(**names), path)
        return found.groupdict() if found and method in self.methods.split() else None


def options(
    must: Table | None = None, may: Table | None = None, always: Mapping[str, str] | None = None
) -> Rule:
    """The options of an endpoint."""
    return fields(must, may, always, unset=UNSET_OPTION)


def filters(own: Own, *names: str) -> Rule:
    """The filters of a list, with a label that narrows it to ours."""
    wanted = f"{PROJECT}={own.project}"

    def values(what: str, given: Any) -> Any:
        listed = [key for key in given if given[key] is True] if isinstance(given, dict) else given
        return each(WORDS)(what, listed)

    rule = fields(may=dict.fromkeys(("label", *names), values))

    def narrow(what: str, given: Any) -> str:
        checked = rule(what, parse_json(given or "{}"))
        return json.dumps(checked | {"label": [*checked.get("label", []), wanted]})

    return narrow


def build_options(own: Own) -> Rule:
    """The options of a build. BuildKit, version 2, would heed no limits."""
    return options(
        must={"t": several(tag_rule(own))},
        may={
            "labels": within(pairs({re.escape(PROJECT): one_of(own.project), **OWN_LABELS})),
            "buildargs": within(pairs({r"[A-Za-z_][A-Za-z0-9_]*": text(r"[^\0]*")})),
            "dockerfile": text(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]", "a name at the context's top"),
            "networkmode": one_of("default", "none"),
            "version": one_of("1"),
            **dict.fromkeys(("nocache", "rm", "forcerm"), flag),
        },
        always={
            "version": "1",
            "rm": "1",
            "forcerm": "1",
            "memory": str(own.memory),
            "memswap": str(own.memory),
            "cpuperiod": "100000",
            "cpuquota": str(int(own.cpus * 100_000)),
        },
    )


def endpoint_table(own: Own) -> tuple[Endpoint, ...]:
    """All that is passed on."""
    one, image = "/containers/{container}", "/images/{image}"
    named = text(re.escape(own.project) + r"-model-[A-Za-z0-9_.-]+", f"{own.project}-model-…")
    containers = options(
        must={"filters": filters(own, "id", "name", "status", "health")},
        may={"all": flag, "size": flag, "limit": text(r"-1|[0-9]{1,6}")},
    )
    images = options(must={"filters": filters(own, "reference", "dangling")}, may={"all": flag})
    logs = options(
        may={
            **dict.fromkeys(("follow", "stdout", "stderr", "timestamps", "details"), flag),
            "since": TIME,
            "until": TIME,
            "tail": text(r"all|[0-9]{1,9}"),
        }
    )
    stop = options(may={"t": text(r"[0-9]{1,4}"), "signal": SIGNAL})
    wait = options(may={"condition": one_of("not-running", "next-exit", "removed")})
    # A container's volumes are nameless, so nobody misses them.
    remove = options(may={"force": flag, "v": flag}, always={"v": "1"})
    return (
        Endpoint("GET HEAD", "/_ping", options()),
        Endpoint("GET", "/version", options()),
        Endpoint("GET", "/containers/json", containers, "list"),
        Endpoint("POST", "/containers/create", options(must={"name": named}), "create"),
        Endpoint("GET", f"{one}/json", options(may={"size": flag})),
        Endpoint("GET", f"{one}/logs", logs),
        Endpoint("GET", f"{one}/stats", options(may={"stream": flag, "one-shot": flag})),
        Endpoint("POST", f"{one}/start", options()),
        Endpoint("POST", f"{one}/stop", stop),
        Endpoint("POST", f"{one}/kill", options(may={"signal": SIGNAL})),
        Endpoint("POST", f"{one}/wait", wait),
        Endpoint("DELETE", one, remove),
        Endpoint("GET", "/images/json", images, "list"),
        Endpoint("GET", f"{image}/json", options()),
        Endpoint("DELETE", image, options(may={"force": flag, "noprune": flag})),
        Endpoint("POST", "/build", build_options(own), "build"),
    )
