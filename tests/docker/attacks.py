"""What somebody who reaches the filter would try, as requests, against a victim that is not ours.

Every attack that the engine itself would serve is also sent to the bare engine, where it must do
harm: or its denial by the filter would show nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from tests.docker.filtering import BASE, archive, http
from tests.docker.world import Attack, Make, World, container, own_labels


def secret(world: World) -> str:
    return world.secret


def victims_name(world: World) -> str:
    return world.victim


def _create(body: Callable[[World], Mapping[str, Any] | str], name: str = "-model-attack") -> Make:
    return lambda world: http("POST", f"/containers/create?name={world.marker}{name}", body(world))


def _host(**changes: Any) -> Make:
    return _create(lambda world: container(world, HostConfig=changes))


def _top(**changes: Any) -> Make:
    return _create(lambda world: container(world, **changes))


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
    "base image": {"Image": BASE},
}
HERE: dict[str, Callable[[World], dict[str, Any]]] = {
    "volumes from": lambda w: {"HostConfig": {"VolumesFrom": [w.victim]}},
    "network of a container": lambda w: {"HostConfig": {"NetworkMode": f"container:{w.victim}"}},
    "foreign network": lambda w: {"HostConfig": {"NetworkMode": w.other}},
    "foreign network by id": lambda w: {"HostConfig": {"NetworkMode": w.other_id}},
    "foreign endpoint": lambda w: {"NetworkingConfig": {"EndpointsConfig": {w.other: {}}}},
    "name of a service as alias": lambda w: {
        "NetworkingConfig": {"EndpointsConfig": {w.network: {"Aliases": ["postgres"]}}}
    },
    "link": lambda w: {"HostConfig": {"Links": [w.own]}},
    "foreign image": lambda w: {"Image": w.foreign_image},
    "foreign image by id": lambda w: {"Image": w.image_id(w.foreign_image)},
    "foreign image by the start of its id": lambda w: {"Image": w.image_id(w.foreign_image)[7:19]},
    "label of compose": lambda w: {
        "Labels": {**own_labels(w), "com.docker.compose.service": "postgres"}
    },
    "label for a router": lambda w: {"Labels": {**own_labels(w), "traefik.enable": "true"}},
    "no labels": lambda w: {"Labels": {"x": w.marker}},
}
START = '"HostConfig": {'
JSON: dict[str, Callable[[str], str]] = {
    "key in capitals": lambda s: s.replace(START, '"HOSTCONFIG": {"Privileged": true, '),
    "key twice": lambda s: s[:-1] + ', "HostConfig": {"Privileged": true}}',
    "key twice in another case": lambda s: s[:-1] + ', "hostconfig": {"Privileged": true}}',
    "inner key in another case": lambda s: s.replace(START, START + '"privileged": true, '),
    "inner key twice": lambda s: s.replace(
        START, START + '"Privileged": false, "privileged": true, '
    ),
    "key that Go folds": lambda s: s.replace(START, START + '"Bind\\u017f": ["/:/host"], '),
    "escaped key": lambda s: s.replace(START, START + '"\\u0050rivileged": true, '),
    "after the JSON": lambda s: s + ' {"HostConfig": {"Privileged": true}}',
    "deep JSON": lambda s: s[:-1] + ', "x": ' + "[" * 9999 + "]" * 9999 + "}",
    "huge body": lambda s: s + " " * (1 << 20),
}


def _changed(change: Callable[[World], dict[str, Any]]) -> Make:
    return _create(lambda w: container(w, **change(w)))


def _text(change: Callable[[str], str]) -> Make:
    return _create(lambda w: change(json.dumps(container(w))))


CREATE = (
    *(Attack(name, _host(**changes)) for name, changes in HOST.items()),
    *(Attack(name, _top(**changes)) for name, changes in TOP.items()),
    *(Attack(name, _changed(change)) for name, change in HERE.items()),
    *(Attack(name, _text(change)) for name, change in JSON.items()),
    Attack("volume mount", _host(Mounts=[{"Type": "volume", "Target": "/x"}]), bare=False),
    Attack("log driver", _host(LogConfig={"Type": "syslog"}), bare=False),
    Attack("name of a service", _create(container, "-postgres")),
    Attack("no name", lambda w: http("POST", "/containers/create", container(w))),
    Attack("platform", _create(container, "-model-attack&platform=linux")),
)


def to(method: str, path: str, body: bytes | str | Mapping[str, Any] = b"", **headers: str) -> Make:
    return lambda w: http(
        method,
        path.format(
            victim=w.victim,
            own=w.own,
            marker=w.marker,
            id=w.id_of(w.victim) if "{id" in path else "",
            short=w.id_of(w.victim)[:12] if "{short" in path else "",
            image=w.foreign_image,
            image_id=w.image_id(w.foreign_image) if "{image_id" in path else "",
            url=w.url,
        ),
        body,
        **headers,
    )


EXEC = {"Cmd": ["cat", "/etc/hostname"], "AttachStdout": True}
FILE = archive({"x": "y"})
CONTAINERS = (
    Attack("stop", to("POST", "/containers/{victim}/stop?t=0")),
    Attack("stop by id", to("POST", "/containers/{id}/stop?t=0")),
    Attack("stop by the start of its id", to("POST", "/containers/{short}/stop?t=0")),
    Attack("kill", to("POST", "/v1.41/containers/{victim}/kill")),
    Attack("kill by an old version", to("POST", "/v1.24/containers/{victim}/kill")),
    Attack("restart", to("POST", "/containers/{victim}/restart?t=0")),
    Attack("pause", to("POST", "/containers/{victim}/pause")),
    Attack("rename", to("POST", "/containers/{victim}/rename?name={marker}-x")),
    Attack("update", to("POST", "/containers/{victim}/update", {"PidsLimit": 9})),
    Attack("remove", to("DELETE", "/containers/{victim}?force=1")),
    Attack("remove by the start of its id", to("DELETE", "/containers/{short}?force=1")),
    Attack("inspect", to("GET", "/containers/{victim}/json"), secret),
    Attack("inspect by the start of its id", to("GET", "/containers/{short}/json"), secret),
    Attack("logs", to("GET", "/containers/{victim}/logs?stdout=1"), secret),
    Attack(
        "stats",
        to("GET", "/containers/{victim}/stats?stream=0&one-shot=1"),
        lambda _: "memory_stats",
    ),
    Attack("top", to("GET", "/containers/{victim}/top"), lambda _: "python3"),
    Attack("wait", to("POST", "/containers/{victim}/wait?condition=not-running"), bare=False),
    Attack("changes", to("GET", "/containers/{victim}/changes"), bare=False),
    Attack("attach", to("POST", "/containers/{victim}/attach?logs=1&stdout=1"), secret),
    Attack("attach by web socket", to("GET", "/containers/{victim}/attach/ws"), bare=False),
    Attack("exec", to("POST", "/containers/{victim}/exec", EXEC)),
    Attack("exec in our own", to("POST", "/containers/{own}/exec", {**EXEC, "Privileged": True})),
    Attack("update our own", to("POST", "/containers/{own}/update", {"PidsLimit": -1})),
    Attack("rename our own", to("POST", "/containers/{own}/rename?name={marker}-postgres")),
    Attack(
        "copy out",
        to("GET", "/containers/{victim}/archive?path=/etc/hostname"),
        lambda _: "hostname",
    ),
    Attack("copy in", to("PUT", "/containers/{victim}/archive?path=/", FILE), bare=False),
    Attack("export", to("GET", "/containers/{victim}/export"), bare=False),
    Attack("commit", to("POST", "/commit?container={victim}&repo={marker}/stolen", {})),
    Attack(
        "commit our own",
        to("POST", "/commit?container={own}&repo={marker}-foreign/app&tag=1", {}),
    ),
    Attack(
        "checkpoint",
        to("POST", "/containers/{own}/start?checkpoint-dir=/etc&checkpoint=x"),
        bare=False,
    ),
    Attack("prune containers", to("POST", "/containers/prune"), bare=False),
    Attack("list", to("GET", "/containers/json?all=1"), victims_name, served=True),
    Attack(
        "list with size",
        to("GET", "/v1.41/containers/json?all=1&size=1"),
        victims_name,
        served=True,
    ),
    Attack(
        "list by name",
        to("GET", "/containers/json?filters=%7B%22name%22:[%22{victim}%22]%7D"),
        victims_name,
        served=True,
    ),
    Attack("list around a victim", to("GET", "/containers/json?all=1&since={victim}"), bare=False),
    Attack(
        "start with a body",
        to("POST", "/containers/{own}/start", {"Binds": ["/:/x"]}),
        bare=False,
    ),
)

ENGINE = (
    Attack("info", to("GET", "/info"), lambda _: "DockerRootDir"),
    Attack("events", to("GET", "/events?since=1&until=2"), bare=False),
    Attack("disk usage", to("GET", "/system/df"), victims_name, bare=False),
    Attack("prune everything", to("POST", "/system/prune"), bare=False),
    Attack("networks", to("GET", "/networks"), lambda w: f"{w.marker}-other"),
    Attack("network", to("POST", "/networks/create", {"Name": "x"}), bare=False),
    Attack(
        "named network", lambda w: http("POST", "/networks/create", {"Name": f"{w.marker}-net"})
    ),
    Attack(
        "connect",
        lambda w: http("POST", f"/networks/{w.marker}-other/connect", {"Container": w.own}),
    ),
    Attack(
        "disconnect",
        lambda w: http("POST", f"/networks/{w.marker}-other/disconnect", {"Container": w.victim}),
    ),
    Attack("remove a network", to("DELETE", "/networks/{marker}-other"), bare=False),
    Attack("prune networks", to("POST", "/networks/prune"), bare=False),
    Attack("volumes of all", to("GET", "/volumes"), lambda _: "Volumes"),
    Attack(
        "volume",
        lambda w: http(
            "POST",
            "/volumes/create",
            {
                "Name": f"{w.marker}-v",
                "DriverOpts": {"type": "none", "o": "bind", "device": "/"},
            },
        ),
    ),
    Attack("plugins", to("GET", "/plugins"), bare=False),
    Attack("plugin", to("POST", "/plugins/pull?remote=x"), bare=False),
    *(
        Attack(path, to(method, f"/{path}", {}), bare=False)
        for method, path in (
            *(("POST", one) for one in ("swarm/init", "swarm/join", "session", "grpc", "auth")),
            *(("POST", f"{one}/create") for one in ("services", "secrets", "configs")),
            *(
                ("GET", one)
                for one in ("swarm", "nodes", "services", "tasks", "secrets", "configs")
            ),
            ("GET", "distribution/python/json"),
            ("POST", "build/prune"),
        )
    ),
)

IMAGES = (
    Attack("list images", to("GET", "/images/json"), lambda w: w.foreign_image, served=True),
    Attack("list all images", to("GET", "/images/json?all=1&digests=1"), lambda w: w.foreign_image),
    Attack(
        "list images by name",
        lambda w: http(
            "GET",
            "/images/json?"
            + urlencode(
                {"filters": json.dumps({"reference": [w.foreign_image], "label": {"x": False}})}
            ),
        ),
        lambda w: w.foreign_image,
        bare=False,
        served=True,
    ),
    Attack("inspect an image", to("GET", "/images/{image}/json"), secret),
    Attack("inspect an image by id", to("GET", "/images/{image_id}/json"), secret),
    Attack(
        "out of the images",
        to("GET", "/images/x/../../containers/{victim}/json"),
        secret,
        bare=False,
    ),
    Attack("history", to("GET", "/images/{image}/history"), secret),
    Attack("save", to("GET", "/images/{image}/get"), bare=False),
    Attack("save some", to("GET", "/images/get?names={image}"), bare=False),
    Attack("load", to("POST", "/images/load", FILE), bare=False),
    Attack("import", to("POST", "/images/create?fromSrc=-&repo={marker}/imported", FILE)),
    Attack("import from a URL", to("POST", "/images/create?fromSrc={url}&repo={marker}/imported")),
    Attack("pull", to("POST", "/images/create?fromImage=localhost:1/x&tag=1"), bare=False),
    Attack("push", to("POST", "/images/{marker}/own/push?tag=1"), bare=False),
    Attack("search", to("GET", "/images/search?term=x"), bare=False),
    Attack(
        "tag a foreign image as ours",
        to("POST", "/images/{image}/tag?repo={marker}/stolen&tag=1"),
    ),
    Attack(
        "tag ours as a foreign image",
        to("POST", "/images/{marker}/own:1/tag?repo={marker}-foreign/app&tag=1"),
    ),
    Attack("remove an image", to("DELETE", "/images/{image}?force=1")),
    Attack("remove an image by id", to("DELETE", "/images/{image_id}?force=1"), bare=False),
    Attack("prune images", to("POST", "/images/prune"), bare=False),
)
