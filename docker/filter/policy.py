"""Which containers and images are ours, and the tables of all that is allowed."""

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
    integer,
    json_text,
    mapping,
    one_of,
    parse_json,
    repeatable,
    text,
)

PROJECT, COMPOSE = "mlops.project", "com.docker.compose."


@dataclass(frozen=True)
class Settings:
    """What is ours, and its limits: CPUs, bytes, processes, containers."""

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
        """Whether these labels make a container or image ours; the stack's services never are."""
        labels = labels or {}
        service = labels.get(f"{COMPOSE}service", "model-")
        return labels.get(PROJECT) == self.project and service.startswith("model-")

    def owns_image(self, labels: Mapping[str, str] | None, names: Sequence[str]) -> bool:
        """Whether both the labels and all names of an image are ours."""
        ours = (f"{self.prefix}/", "<none>")
        return self.owns(labels) and all(name.startswith(ours) for name in names)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the variables that filter.py lists; exits when one is missing or invalid."""
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
    settings: dict[str, Any] = {}
    for variable, (name, kind) in kinds.items():
        value = environment.get(variable)
        try:
            if value:
                settings[name] = kind(value)
        except ValueError:
            sys.exit(f"filter: {variable}={value!r} is not an amount")
    if not {"project", "network"} <= settings.keys():
        sys.exit("filter: FILTER_PROJECT and FILTER_NETWORK must be set")
    return Settings(**settings)


def _bytes(value: str) -> int:
    match = re.fullmatch(r"([0-9]+)([kmg]?)b?", value.lower())
    if not match:
        raise ValueError(value)
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]]


# ---- Values.

LINE = text(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*", "text in one line")
SIGNAL = text(r"(SIG)?[A-Z]{1,10}[0-9+]*|[0-9]{1,2}")
TIME = text(r"[0-9TZ:.+-]{0,40}")
BOOLEAN = one_of(True, False)
ALIAS = text(r"model-[a-z0-9_.-]+")
"""Any other alias could pose as a service of the stack: all networks share one name space."""
REFERENCE = r"[A-Za-z0-9][A-Za-z0-9_./:@-]*"
OWN_LABELS: Table = {r"mlops\.[a-z0-9_.-]+": LINE, r"org\.opencontainers\.[a-z0-9_.-]+": LINE}


def tag_rule(settings: Settings) -> Rule:
    """The name of one of our images."""
    name = r"/[a-z0-9]+([._-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    return text(re.escape(settings.prefix) + name, f"{settings.prefix}/NAME:TAG")


def label_table(settings: Settings) -> Table:
    """The labels that a container may carry."""
    return {
        re.escape(PROJECT): one_of(settings.project),
        **OWN_LABELS,
        r"[A-Za-z0-9_-]{1,63}": LINE,  # the user's: programs that act on labels use dotted ones
        re.escape(f"{COMPOSE}project"): one_of(settings.project),
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


def host_rule(settings: Settings) -> Rule:
    """HostConfig."""
    return fields(
        must={
            "NetworkMode": one_of(settings.network),
            "Memory": integer(6 << 20, settings.memory),
            "NanoCpus": integer(1, settings.cpus * 1e9),
            "PidsLimit": integer(1, settings.pids),
            "ReadonlyRootfs": one_of(True),
            "CapDrop": one_of(["ALL"]),
            "SecurityOpt": one_of(["no-new-privileges:true"], ["no-new-privileges"]),
            "LogConfig": fields(must={"Type": one_of("json-file", "local"), "Config": ROTATED}),
        },
        may={
            "MemorySwap": integer(0, settings.memory),
            "Init": BOOLEAN,
            "Tmpfs": mapping({"/tmp": TMPFS}),  # noqa: S108 - inside the container
            "RestartPolicy": fields(
                must={"Name": one_of("", "no", "on-failure", "unless-stopped")},
                may={"MaximumRetryCount": integer(0, 100)},
            ),
        },
        always={"IpcMode": "private", "CgroupnsMode": "private"},
    )


def create_rule(settings: Settings) -> Rule:
    """The whole body."""
    rule = fields(
        must={
            "Image": text(REFERENCE),
            "User": text(r"[1-9][0-9]{0,9}(:[0-9]{1,10})?", "UID or UID:GID, not root"),
            "Labels": mapping(
                label_table(settings), (PROJECT, f"{COMPOSE}project", f"{COMPOSE}service")
            ),
            "HostConfig": host_rule(settings),
        },
        may={
            "Env": each(text(r"[^=\0]+=[^\0]*", "NAME=value")),
            "AttachStdout": BOOLEAN,
            "AttachStderr": BOOLEAN,
            "NetworkingConfig": fields(
                may={
                    "EndpointsConfig": fields(
                        may={settings.network: fields(may={"Aliases": each(ALIAS)})}
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
    """Methods, path with {container} or {image}, options, and how the request is handled."""

    methods: str
    path: str
    options: Rule
    kind: str = "relay"

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Return the names in the path if the request is for this endpoint."""
        names = {
            "container": r"(?P<container>[A-Za-z0-9][A-Za-z0-9_.-]*)",
            "image": r"(?P<image>[A-Za-z0-9][A-Za-z0-9_.:@-]*(?:/[A-Za-z0-9_.:@-]+)*)",
        }
        match = re.fullmatch(self.path.format(**names), path)
        return match.groupdict() if match and method in self.methods.split() else None


def options(
    must: Table | None = None, may: Table | None = None, always: Mapping[str, str] | None = None
) -> Rule:
    """The options of an endpoint."""
    return fields(must, may, always, unset=UNSET_OPTION)


def filters(settings: Settings, *names: str) -> Rule:
    """The filters of a list, with a label added that narrows it to ours."""
    label = f"{PROJECT}={settings.project}"

    def values(what: str, given: Any) -> Any:
        keys = [key for key in given if given[key] is True] if isinstance(given, dict) else given
        return each(LINE)(what, keys)

    rule = fields(may=dict.fromkeys(("label", *names), values))

    def narrow(what: str, given: Any) -> str:
        checked = rule(what, parse_json(given or "{}"))
        return json.dumps(checked | {"label": [*checked.get("label", []), label]})

    return narrow


def build_options(settings: Settings) -> Rule:
    """The options of a build. BuildKit, version 2, ignores limits."""
    return options(
        must={"t": repeatable(tag_rule(settings))},
        may={
            "labels": json_text(
                mapping({re.escape(PROJECT): one_of(settings.project), **OWN_LABELS})
            ),
            "buildargs": json_text(mapping({r"[A-Za-z_][A-Za-z0-9_]*": text(r"[^\0]*")})),
            "dockerfile": text(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-]", "a name at the context's top"),
            "networkmode": one_of("default", "none"),
            "version": one_of("1"),
            **dict.fromkeys(("nocache", "rm", "forcerm"), flag),
        },
        always={
            "version": "1",
            "rm": "1",
            "forcerm": "1",
            "memory": str(settings.memory),
            "memswap": str(settings.memory),
            "cpuperiod": "100000",
            "cpuquota": str(int(settings.cpus * 100_000)),
        },
    )


def endpoint_table(settings: Settings) -> tuple[Endpoint, ...]:
    """Return every endpoint that is passed on."""
    container, image = "/containers/{container}", "/images/{image}"
    prefix = f"{settings.project}-model-"
    name = text(re.escape(prefix) + r"[A-Za-z0-9_.-]+", f"{prefix}…")
    containers = options(
        must={"filters": filters(settings, "id", "name", "status", "health")},
        may={"all": flag, "size": flag, "limit": text(r"-1|[0-9]{1,6}")},
    )
    images = options(
        must={"filters": filters(settings, "reference", "dangling")}, may={"all": flag}
    )
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
    # Our containers have only anonymous volumes: nobody else uses them.
    remove = options(may={"force": flag, "v": flag}, always={"v": "1"})
    return (
        Endpoint("GET HEAD", "/_ping", options()),
        Endpoint("GET", "/version", options()),
        Endpoint("GET", "/containers/json", containers, "list"),
        Endpoint("POST", "/containers/create", options(must={"name": name}), "create"),
        Endpoint("GET", f"{container}/json", options(may={"size": flag})),
        Endpoint("GET", f"{container}/logs", logs),
        Endpoint("GET", f"{container}/stats", options(may={"stream": flag, "one-shot": flag})),
        Endpoint("POST", f"{container}/start", options()),
        Endpoint("POST", f"{container}/stop", stop),
        Endpoint("POST", f"{container}/kill", options(may={"signal": SIGNAL})),
        Endpoint("POST", f"{container}/wait", wait),
        Endpoint("DELETE", container, remove),
        Endpoint("GET", "/images/json", images, "list"),
        Endpoint("GET", f"{image}/json", options()),
        Endpoint("DELETE", image, options(may={"force": flag, "noprune": flag})),
        Endpoint("POST", "/build", build_options(settings), "build"),
    )
