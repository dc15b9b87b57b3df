"""Attacks by the body and the options of containers/create."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.docker.filtering import BASE, http
from tests.docker.world import Attack, Make, World, container, own_labels

Change = Callable[[World], dict[str, Any]]


def _create(body: Callable[[World], Mapping[str, Any] | str], name: str = "-model-attack") -> Make:
    return lambda world: http("POST", f"/containers/create?name={world.marker}{name}", body(world))


def _change(change: Change) -> Make:
    return _create(lambda world: container(world, **change(world)))


def _fields(changes: dict[str, Any]) -> Make:
    return _change(lambda _: changes)


def _json(change: Callable[[str], str]) -> Make:
    return _create(lambda world: change(json.dumps(container(world))))


HOST: dict[str, dict[str, Any]] = {
    "privileged": {"Privileged": True},
    "bind": {"Binds": ["/:/host"]},
    "mount": {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]},
    "host network": {"NetworkMode": "host"},
    "default network": {"NetworkMode": "default"},
    "host pid": {"PidMode": "host"},
    "host ipc": {"IpcMode": "host"},
    "host uts": {"UTSMode": "host"},
    "host userns": {"UsernsMode": "host"},
    "host cgroupns": {"CgroupnsMode": "host"},
    "cgroup parent": {"CgroupParent": "/"},
    "cap add": {"CapAdd": ["SYS_ADMIN"]},
    "capabilities kept": {"CapDrop": []},
    "device": {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x"}]},
    "device request": {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]},
    "device rule": {"DeviceCgroupRules": ["a *:* rwm"]},
    "seccomp": {"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
    "apparmor": {"SecurityOpt": ["no-new-privileges:true", "apparmor=unconfined"]},
    "new privileges": {"SecurityOpt": []},
    "sysctl": {"Sysctls": {"net.ipv4.ip_forward": "1"}},
    "unmasked paths": {"MaskedPaths": []},
    "writable paths": {"ReadonlyPaths": []},
    "writable root": {"ReadonlyRootfs": False},
    "published port": {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}},
    "published ports": {"PublishAllPorts": True},
    "extra host": {"ExtraHosts": ["postgres:10.0.0.1"]},
    "group": {"GroupAdd": ["0"]},
    "no memory limit": {"Memory": 0},
    "huge memory": {"Memory": 1 << 42},
    "endless swap": {"MemorySwap": -1},
    "more swap": {"MemorySwap": 128 << 20},
    "no cpu limit": {"NanoCpus": 0},
    "cpu quota instead": {"NanoCpus": 0, "CpuQuota": -1},
    "cpu shares": {"CpuShares": 1 << 18},
    "no pids limit": {"PidsLimit": -1},
    "zero pids limit": {"PidsLimit": 0},
    "oom score": {"OomScoreAdj": -1000},
    "restart always": {"RestartPolicy": {"Name": "always"}},
    "no log rotation": {"LogConfig": {"Type": "json-file", "Config": {}}},
    "tmpfs elsewhere": {"Tmpfs": {"/usr": ""}},
}
TOP: dict[str, dict[str, Any]] = {
    "volumes": {"Volumes": {"/data": {}}},
    "root": {"User": "0"},
    "user of the image": {"User": ""},
    "command": {"Cmd": ["sh"]},
    "host name": {"Hostname": "postgres"},
}
WORLD: dict[str, tuple[str, Change]] = {
    "volumes from": (
        "HostConfig.VolumesFrom",
        lambda w: {"HostConfig": {"VolumesFrom": [w.victim]}},
    ),
    "network of a container": (
        "HostConfig.NetworkMode",
        lambda w: {"HostConfig": {"NetworkMode": f"container:{w.victim}"}},
    ),
    "foreign network": (
        "HostConfig.NetworkMode",
        lambda w: {"HostConfig": {"NetworkMode": w.other}},
    ),
    "link": ("HostConfig.Links", lambda w: {"HostConfig": {"Links": [w.own]}}),
    "foreign endpoint": (
        "NetworkingConfig.EndpointsConfig",
        lambda w: {"NetworkingConfig": {"EndpointsConfig": {w.other: {}}}},
    ),
    "name of a service as alias": (
        "NetworkingConfig.EndpointsConfig",
        lambda w: {"NetworkingConfig": {"EndpointsConfig": {w.network: {"Aliases": ["postgres"]}}}},
    ),
    "label of compose": (
        "Labels com.docker.compose.service",
        lambda w: {"Labels": {**own_labels(w), "com.docker.compose.service": "postgres"}},
    ),
    "label for a router": (
        "Labels key",
        lambda w: {"Labels": {**own_labels(w), "traefik.enable": "true"}},
    ),
    "no labels": ("Labels", lambda w: {"Labels": {"x": w.marker}}),
}
ENGINE: dict[str, Change] = {
    "base image": lambda _: {"Image": BASE},
    "foreign image": lambda w: {"Image": w.foreign_image},
    "foreign image by id": lambda w: {"Image": w.image_id(w.foreign_image)},
    "foreign image by the start of its id": lambda w: {"Image": w.image_id(w.foreign_image)[7:19]},
    "foreign network by id": lambda w: {"HostConfig": {"NetworkMode": w.other_id}},
}
"""Only with an engine is it known whose the image is, or which id the network has."""
START = '"HostConfig": {'
JSON: dict[str, tuple[str, Callable[[str], str]]] = {
    "key in capitals": (
        "HOSTCONFIG",
        lambda s: s.replace(START, '"HOSTCONFIG": {"Privileged": true, '),
    ),
    "key twice": (
        "JSON keys",
        lambda s: s[:-1] + ', "HostConfig": {"Privileged": true}}',
    ),
    "key twice in another case": (
        "JSON keys",
        lambda s: s[:-1] + ', "hostconfig": {"Privileged": true}}',
    ),
    "inner key in another case": (
        "HostConfig.privileged",
        lambda s: s.replace(START, START + '"privileged": true, '),
    ),
    "inner key twice": (
        "JSON keys",
        lambda s: s.replace(START, START + '"Privileged": false, "privileged": true, '),
    ),
    "key that Go folds": (
        "HostConfig.Bind\u017f",
        lambda s: s.replace(START, START + '"Bind\\u017f": ["/:/host"], '),
    ),
    "escaped key": (
        "HostConfig.Privileged",
        lambda s: s.replace(START, START + '"\\u0050rivileged": true, '),
    ),
    "after the JSON": ("JSON", lambda s: s + ' {"HostConfig": {"Privileged": true}}'),
    "deep JSON": ("JSON", lambda s: s[:-1] + ', "x": ' + "[" * 9999 + "]" * 9999 + "}"),
    "huge body": ("the body is too large", lambda s: s + " " * (1 << 20)),
}

LOOKS_HONEST = {
    *("host cgroupns", "more swap", "link"),  # defaults of some engines, or not shown
    *("after the JSON", "deep JSON", "huge body"),  # the engine ignores what it does not know
    *("name of a service", "no name", "platform"),
}
"""Attacks whose container an inspection cannot tell from an honest one."""

CREATE = (
    *(
        Attack(name, _fields({"HostConfig": changes}), denial=f"HostConfig.{list(changes)[-1]}")
        for name, changes in HOST.items()
    ),
    *(Attack(name, _fields(changes), denial=list(changes)[-1]) for name, changes in TOP.items()),
    *(Attack(name, _change(change), denial=denial) for name, (denial, change) in WORLD.items()),
    *(Attack(name, _change(change)) for name, change in ENGINE.items()),
    *(Attack(name, _json(change), denial=denial) for name, (denial, change) in JSON.items()),
    Attack("name of a service", _create(container, "-postgres"), denial="option.name"),
    Attack(
        "no name",
        lambda w: http("POST", "/containers/create", container(w)),
        denial="option.name",
    ),
    Attack(
        "platform", _create(container, "-model-attack&platform=linux"), denial="option.platform"
    ),
)
