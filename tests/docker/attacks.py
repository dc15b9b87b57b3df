"""What somebody who reaches the filter would try, as requests, against a victim that is not ours.

Every attack that the engine itself would serve is also sent to the bare engine, where it must do harm:
or its denial by the filter would show nothing.
"""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.docker.filtering import BASE, archive, http
from tests.docker.world import World, container, own_labels

Make = Callable[[World], bytes]


@dataclass(frozen=True)
class Attack:
    """A request, and how its harm shows."""

    name: str
    request: Make
    leak: Callable[[World], str] | None = None
    """What must not be read in the answer."""
    bare: bool = True
    """Whether the engine by itself would do it, and do nobody else harm."""
    served: bool = False
    """Whether the filter may serve it, once made harmless."""


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


def _to(
    method: str, path: str, body: bytes | str | Mapping[str, Any] = b"", **headers: str
) -> Make:
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
    Attack("stop", _to("POST", "/containers/{victim}/stop?t=0")),
    Attack("stop by id", _to("POST", "/containers/{id}/stop?t=0")),
    Attack("stop by the start of its id", _to("POST", "/containers/{short}/stop?t=0")),
    Attack("kill", _to("POST", "/v1.41/containers/{victim}/kill")),
    Attack("kill by an old version", _to("POST", "/v1.24/containers/{victim}/kill")),
    Attack("restart", _to("POST", "/containers/{victim}/restart?t=0")),
    Attack("pause", _to("POST", "/containers/{victim}/pause")),
    Attack("rename", _to("POST", "/containers/{victim}/rename?name={marker}-x")),
    Attack("update", _to("POST", "/containers/{victim}/update", {"PidsLimit": 9})),
    Attack("remove", _to("DELETE", "/containers/{victim}?force=1")),
    Attack("remove by the start of its id", _to("DELETE", "/containers/{short}?force=1")),
    Attack("inspect", _to("GET", "/containers/{victim}/json"), secret),
    Attack("inspect by the start of its id", _to("GET", "/containers/{short}/json"), secret),
    Attack("logs", _to("GET", "/containers/{victim}/logs?stdout=1"), secret),
    Attack(
        "stats",
        _to("GET", "/containers/{victim}/stats?stream=0&one-shot=1"),
        lambda _: "memory_stats",
    ),
    Attack("top", _to("GET", "/containers/{victim}/top"), lambda _: "python3"),
    Attack("wait", _to("POST", "/containers/{victim}/wait?condition=not-running"), bare=False),
    Attack("changes", _to("GET", "/containers/{victim}/changes"), bare=False),
    Attack("attach", _to("POST", "/containers/{victim}/attach?logs=1&stdout=1"), secret),
    Attack("attach by web socket", _to("GET", "/containers/{victim}/attach/ws"), bare=False),
    Attack("exec", _to("POST", "/containers/{victim}/exec", EXEC)),
    Attack("exec in our own", _to("POST", "/containers/{own}/exec", {**EXEC, "Privileged": True})),
    Attack("update our own", _to("POST", "/containers/{own}/update", {"PidsLimit": -1})),
    Attack("rename our own", _to("POST", "/containers/{own}/rename?name={marker}-postgres")),
    Attack(
        "copy out",
        _to("GET", "/containers/{victim}/archive?path=/etc/hostname"),
        lambda _: "hostname",
    ),
    Attack("copy in", _to("PUT", "/containers/{victim}/archive?path=/", FILE), bare=False),
    Attack("export", _to("GET", "/containers/{victim}/export"), bare=False),
    Attack("commit", _to("POST", "/commit?container={victim}&repo={marker}/stolen", {})),
    Attack(
        "commit our own", _to("POST", "/commit?container={own}&repo={marker}-foreign/app&tag=1", {})
    ),
    Attack(
        "checkpoint",
        _to("POST", "/containers/{own}/start?checkpoint-dir=/etc&checkpoint=x"),
        bare=False,
    ),
    Attack("prune containers", _to("POST", "/containers/prune"), bare=False),
    Attack("list", _to("GET", "/containers/json?all=1"), victims_name, served=True),
    Attack(
        "list with size",
        _to("GET", "/v1.41/containers/json?all=1&size=1"),
        victims_name,
        served=True,
    ),
    Attack(
        "list by name",
        _to("GET", "/containers/json?filters=%7B%22name%22:[%22{victim}%22]%7D"),
        victims_name,
        served=True,
    ),
    Attack("list around a victim", _to("GET", "/containers/json?all=1&since={victim}"), bare=False),
    Attack(
        "start with a body", _to("POST", "/containers/{own}/start", {"Binds": ["/:/x"]}), bare=False
    ),
)

ENGINE = (
    Attack("info", _to("GET", "/info"), lambda _: "DockerRootDir"),
    Attack("events", _to("GET", "/events?since=1&until=2"), bare=False),
    Attack("disk usage", _to("GET", "/system/df"), victims_name, bare=False),
    Attack("prune everything", _to("POST", "/system/prune"), bare=False),
    Attack("networks", _to("GET", "/networks"), lambda w: f"{w.marker}-other"),
    Attack("network", _to("POST", "/networks/create", {"Name": "x"}), bare=False),
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
    Attack("remove a network", _to("DELETE", "/networks/{marker}-other"), bare=False),
    Attack("prune networks", _to("POST", "/networks/prune"), bare=False),
    Attack("volumes of all", _to("GET", "/volumes"), lambda _: "Volumes"),
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
    Attack("plugins", _to("GET", "/plugins"), bare=False),
    Attack("plugin", _to("POST", "/plugins/pull?remote=x"), bare=False),
    *(
        Attack(path, _to(method, f"/{path}", {}), bare=False)
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
    Attack("list images", _to("GET", "/images/json"), lambda w: w.foreign_image, served=True),
    Attack(
        "list all images", _to("GET", "/images/json?all=1&digests=1"), lambda w: w.foreign_image
    ),
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
    Attack("inspect an image", _to("GET", "/images/{image}/json"), secret),
    Attack("inspect an image by id", _to("GET", "/images/{image_id}/json"), secret),
    Attack(
        "out of the images",
        _to("GET", "/images/x/../../containers/{victim}/json"),
        secret,
        bare=False,
    ),
    Attack("history", _to("GET", "/images/{image}/history"), secret),
    Attack("save", _to("GET", "/images/{image}/get"), bare=False),
    Attack("save some", _to("GET", "/images/get?names={image}"), bare=False),
    Attack("load", _to("POST", "/images/load", FILE), bare=False),
    Attack("import", _to("POST", "/images/create?fromSrc=-&repo={marker}/imported", FILE)),
    Attack("import from a URL", _to("POST", "/images/create?fromSrc={url}&repo={marker}/imported")),
    Attack("pull", _to("POST", "/images/create?fromImage=localhost:1/x&tag=1"), bare=False),
    Attack("push", _to("POST", "/images/{marker}/own/push?tag=1"), bare=False),
    Attack("search", _to("GET", "/images/search?term=x"), bare=False),
    Attack(
        "tag a foreign image as ours", _to("POST", "/images/{image}/tag?repo={marker}/stolen&tag=1")
    ),
    Attack(
        "tag ours as a foreign image",
        _to("POST", "/images/{marker}/own:1/tag?repo={marker}-foreign/app&tag=1"),
    ),
    Attack("remove an image", _to("DELETE", "/images/{image}?force=1")),
    Attack("remove an image by id", _to("DELETE", "/images/{image_id}?force=1"), bare=False),
    Attack("prune images", _to("POST", "/images/prune"), bare=False),
)


def kill(world: World) -> bytes:
    """What smuggled requests do."""
    return http("POST", f"/containers/{world.victim}/kill")


def _after(first: bytes | Make) -> Make:
    return lambda w: (first if isinstance(first, bytes) else first(w)) + kill(w)


def _ping(lines: str) -> bytes:
    return f"GET /_ping HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


def _framed(lines: str, inner: Callable[[bytes], bytes]) -> Make:
    """A smuggled request in the body of one that is allowed."""
    return lambda w: (
        f"POST /containers/{w.own}/kill?signal=0 HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode().replace(
            b"{length}", str(len(kill(w))).encode()
        )
        + inner(kill(w))
    )


CHUNKED = "Transfer-Encoding: chunked"
SMUGGLING = (
    Attack("pipelined", _after(_ping("")), served=True),
    Attack(
        "pipelined after a body",
        _after(
            lambda w: http("POST", f"/containers/{w.own}/kill?signal=CONT", Connection="keep-alive")
        ),
        served=True,
    ),
    Attack("in a body", _framed("Content-Length: {length}", lambda k: k), bare=False),
    Attack(
        "both lengths",
        _framed(f"Content-Length: 5\r\n{CHUNKED}", lambda k: b"0\r\n\r\n" + k),
        bare=False,
    ),
    Attack(
        "both lengths, the other way",
        _framed(f"{CHUNKED}\r\nContent-Length: {{length}}", lambda k: b"0\r\n\r\n" + k),
        bare=False,
    ),
    Attack(
        "two lengths",
        _framed("Content-Length: 0\r\nContent-Length: {length}", lambda k: k),
        bare=False,
    ),
    Attack("same length twice", _framed("Content-Length: 0\r\nContent-Length: 0", lambda k: k)),
    Attack("list of lengths", _framed("Content-Length: 0, 0", lambda k: k), bare=False),
    Attack("signed length", _framed("Content-Length: +0", lambda k: k), bare=False),
    Attack("length with an underscore", _framed("Content-Length: 0_0", lambda k: k), bare=False),
    Attack("negative length", _framed("Content-Length: -1", lambda k: k), bare=False),
    Attack("blank before the colon", _framed("Content-Length : {length}", lambda k: k), bare=False),
    Attack("folded header", _framed("X: y\r\n Content-Length: {length}", lambda k: k)),
    Attack("bare LF", _framed("X: y\nContent-Length: 0", lambda k: k)),
    Attack("bare LF everywhere", lambda w: (_ping("") + kill(w)).replace(b"\r\n", b"\n")),
    Attack(
        "chunked in capitals", _framed("Transfer-Encoding: CHUNKED", lambda k: b"0\r\n\r\n" + k)
    ),
    Attack(
        "odd coding", _framed("Transfer-Encoding: xchunked", lambda k: b"0\r\n\r\n" + k), bare=False
    ),
    Attack(
        "two codings",
        _framed(f"{CHUNKED}\r\nTransfer-Encoding: identity", lambda k: b"0\r\n\r\n" + k),
        bare=False,
    ),
    Attack("chunk extension", _framed(CHUNKED, lambda k: b"0;x=y\r\n\r\n" + k)),
    Attack("trailer", _framed(CHUNKED, lambda k: b"0\r\nX: y\r\n\r\n" + k)),
    Attack("chunk in hexadecimal", _framed(CHUNKED, lambda k: b"0x0\r\n\r\n" + k), bare=False),
    Attack("chunks with bare LF", _framed(CHUNKED, lambda k: b"0\n\n" + k)),
    Attack("NUL in a header", _framed("X: \0\r\nContent-Length: 0", lambda k: k), bare=False),
    Attack(
        "upgrade", _framed("Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 0", lambda k: k)
    ),
    Attack(
        "in the name of a container",
        lambda w: http(
            "POST",
            f"/containers/create?name={w.marker}-model-x%20HTTP/1.1%0d%0a%0d%0a"
            + kill(w).decode().replace("\r\n", "%0d%0a").replace(" ", "%20"),
            container(w),
        ),
        bare=False,
    ),
)

PATHS = tuple(
    Attack(f"path {path}", _to("POST", path), bare=bare)
    for path, bare in {
        "//containers/{victim}/kill": False,
        "/./containers/{victim}/kill": False,
        "/containers/{own}/../{victim}/kill": False,
        "/containers/{own}/%2e%2e/{victim}/kill": False,
        "/containers/{own}%2F..%2F{victim}/kill": False,
        "/containers%2F{victim}%2Fkill": True,
        "/%63ontainers/{victim}/kill": True,
        "/containers/%2f{victim}/kill": False,
        "/containers/{victim}%00/kill": False,
        "/containers/{victim}/kill%3Fx": False,
        "/containers/{victim}/kill;x": False,
        "/containers/{victim};x/kill": False,
        "/containers/{victim}/kill#x": False,
        "/containers/{victim}/kill/": False,
        "/CONTAINERS/{victim}/kill": False,
        "/v1.24/containers/{victim}/kill": True,
        "/v1.9/containers/{victim}/kill": False,
        "/v999.9/containers/{victim}/kill": False,
        "/V1.41/containers/{victim}/kill": False,
        "/v1.41/v1.41/containers/{victim}/kill": False,
        "/v1.41.1/containers/{victim}/kill": False,
        "http://docker/containers/{victim}/kill": True,
        "docker:2375": False,
        "*": False,
    }.items()
)


def _build(
    dockerfile: str = f"FROM {BASE}\nLABEL built=1\n",
    pack: Callable[[World, str], bytes] | None = None,
    /,
    **options: str,
) -> Make:
    def make(world: World) -> bytes:
        names = {"image": world.foreign_image, "url": world.url, "marker": world.marker}
        text = dockerfile.format(**names)
        asked = {"t": f"{world.marker}/attack:1", **options}
        query = urlencode({key: value.format(**names) for key, value in asked.items()})
        context = pack(world, text) if pack else archive({"Dockerfile": text})
        return http("POST", f"/build?{query}", context, Content_Type="application/x-tar")

    return make


HONEST = f"FROM {BASE}\nLABEL honest=1\n"
FETCH = f"FROM {BASE}\nADD {{url}} /x\n"


def _entry(name: str, data: bytes, **fields: Any) -> bytes:
    """One entry of an archive, without its end."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def _end(entries: bytes) -> bytes:
    return entries + bytes(1024)


def _mended(entry: bytes, at: slice, value: bytes) -> bytes:
    raw = bytearray(entry)
    raw[at] = value
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw)


def _swallowed(header: Callable[[int], bytes]) -> Callable[[World, str], bytes]:
    """The engine takes an honest Dockerfile for the content of a file before it."""

    def pack(_: World, text: str) -> bytes:
        honest = _entry("Dockerfile", HONEST.encode())
        return _end(_entry("Dockerfile", text.encode()) + header(len(honest)) + honest)

    return pack


def _later(**fields: Any) -> Callable[[World, str], bytes]:
    """Something else takes the honest Dockerfile's place."""
    return lambda _, text: _end(
        _entry("Dockerfile", HONEST.encode())
        + _entry("evil", text.encode())
        + _entry("Dockerfile", b"", linkname="evil", **fields)
    )


def _disguised(_: World, text: str) -> bytes:
    """A gzip stream whose extra field makes its start a tar header, of a file that is the rest."""
    inner = gzip.compress(archive({"Dockerfile": text}), mtime=0)[10:]
    start = b"\x1f\x8b\x08\x04" + bytes(6) + (500).to_bytes(2, "little")
    rest = inner + bytes(-len(inner) % 512)
    header = _mended(_entry("x", b"")[:512], slice(0, 12), start)
    header = _mended(header, slice(124, 136), f"{len(rest):011o}\0".encode())
    return _end(header + rest + _entry("Dockerfile", HONEST.encode()))


def _form(world: World) -> bytes:
    """Options in a form go before those in the query; what the engine peeks at comes before them."""
    inner = "x=" + "y" * 4096 + "&" + urlencode({"remote": world.url, "networkmode": "host"})
    return http(
        "POST",
        f"/build?t={world.marker}/attack:1",
        inner,
        Content_Type="application/x-www-form-urlencoded",
    )


BUILD = (
    Attack("foreign tag", _build(t="{image}")),
    Attack(
        "foreign tag beside ours",
        lambda w: _build()(w).replace(b"/build?", f"/build?t={w.foreign_image}&".encode()),
    ),
    Attack("tag of a registry", _build(t="localhost:1/{marker}/x:1")),
    Attack("no tag", _build(t=""), bare=False),
    Attack("host network in a build", _build(networkmode="host")),
    Attack("network in a build", _build(networkmode="{marker}-other")),
    Attack("remote context", _build(remote="{url}")),
    Attack("remote context in a form", _form),
    Attack("extra hosts", _build(extrahosts="postgres:10.0.0.1")),
    Attack("security options", _build(securityopt='["seccomp=unconfined"]'), bare=False),
    Attack("cache of a foreign image", _build(cachefrom='["{image}"]'.replace("[", "[", 1))),
    Attack("cgroup parent of a build", _build(cgroupparent="/")),
    Attack("memory of a build", _build(memory="99999999999", memswap="-1")),
    Attack("ulimits", _build(ulimits="[]".replace("[]", '[{{"Name":"nproc","Hard":9,"Soft":9}}]'))),
    Attack("BuildKit", _build(version="2"), bare=False),
    Attack("session", _build(session="x", version="2"), bare=False),
    Attack("labels of others", _build(labels='{{"com.docker.compose.project":"other"}}')),
    Attack("label of another project", _build(labels='{{"mlops.project":"other"}}')),
    Attack("pull", _build(pull="1"), bare=False),
    Attack("from a foreign image", _build("FROM {image}\nLABEL x=1\n")),
    Attack(
        "from a foreign image by an argument",
        _build("ARG X=x\nFROM $X\nLABEL x=1\n", buildargs='{{"X":"{image}"}}'),
    ),
    Attack(
        "copied from a foreign image",
        _build(f"FROM {BASE}\nCOPY --from={{image}} /etc/hostname /x\n"),
    ),
    Attack(
        "copied from behind a continuation",
        _build(
            f"FROM {BASE} AS {{marker}}-bareetc\nFROM {BASE}\nCOPY --from={{marker}}-bare\\\n etc /x/\n"
        ),
    ),
    Attack(
        "from an image of ours that is not there", _build("FROM {marker}/nobody:1\n"), bare=False
    ),
    Attack("fetched by the engine", _build(FETCH)),
    Attack("fetched in lower case", _build(FETCH.replace("ADD", "add"))),
    Attack("fetched from two lines", _build(FETCH.replace("ADD", "A\\\nDD"))),
    Attack(
        "fetched by another escape",
        _build(f"# escape=`\nFROM {BASE}\nRUN true \\\nADD {{url}} /x\n"),
    ),
    Attack(
        "fetched after two backslashes",
        _build(f"FROM {BASE}\nRUN true \\\\\nADD {{url}} /x\n"),
        bare=False,
    ),
    Attack(
        "fetched after a comment",
        _build(f"FROM {BASE}\nRUN true \\\n# x\n\nADD {{url}} /x\n"),
        bare=False,
    ),
    Attack("fetched on build", _build("FROM {marker}/own:1\nONBUILD ADD {url} /x\n")),
    Attack("volume of an image", _build(f"FROM {BASE}\nVOLUME /x\n")),
    Attack(
        "compressed context", _build(FETCH, lambda _, t: gzip.compress(archive({"Dockerfile": t})))
    ),
    Attack("compressed context in disguise", _build(FETCH, _disguised), served=True),
    Attack("no archive", _build(FETCH, lambda _, t: t.encode()), bare=False),
    Attack("in lower case", _build(FETCH, lambda _, t: archive({"dockerfile": t}))),
    Attack(
        "other file",
        _build(
            FETCH, lambda _, t: archive({"Dockerfile": HONEST, "x/evil": t}), dockerfile="x/evil"
        ),
    ),
    Attack(
        "second Dockerfile",
        _build(FETCH, lambda _, t: archive({"Dockerfile": HONEST, "./Dockerfile": t})),
    ),
    Attack(
        "Dockerfile swallowed by an extended header",
        _build(FETCH, _swallowed(lambda n: _entry("x", b"", pax_headers={"size": str(n)}))),
    ),
    Attack(
        "Dockerfile swallowed by leading NULs",
        _build(
            FETCH,
            _swallowed(
                lambda n: _mended(_entry("x", b""), slice(124, 136), f"\0\0\0\0{n:07o}\0".encode())
            ),
        ),
    ),
    Attack(
        "Dockerfile swallowed by base 256",
        _build(
            FETCH,
            _swallowed(
                lambda n: _mended(
                    _entry("x", b""), slice(124, 136), b"\x80" + n.to_bytes(11, "big")
                )
            ),
        ),
    ),
    Attack("symbolic link in its place", _build(FETCH, _later(type=tarfile.SYMTYPE)), served=True),
    Attack("hard link in its place", _build(FETCH, _later(type=tarfile.LNKTYPE)), served=True),
    Attack(
        "extended header in its place",
        _build(
            FETCH,
            lambda _, t: _end(
                _entry("Dockerfile", HONEST.encode())
                + _entry("x", t.encode(), pax_headers={"path": "Dockerfile"})
            ),
        ),
        served=True,
    ),
)

ATTACKS = (*CREATE, *CONTAINERS, *ENGINE, *IMAGES, *SMUGGLING, *PATHS, *BUILD)
