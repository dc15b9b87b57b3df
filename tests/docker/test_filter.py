"""The filter's reading and rules, without an engine."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docker.filtering import HERE, archive, ask, http, running
from tests.waiting import until

# isort: split
import contexts
import policy
import rules
import wire

OWN = policy.Own("shop", "shop-models", prefix="shop")
LABELS = {
    "mlops.project": "shop",
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "model-wine",
}
HOST: dict[str, Any] = {
    "NetworkMode": "shop-models",
    "Memory": 64 << 20,
    "NanoCpus": 500_000_000,
    "PidsLimit": 64,
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges:true"],
    "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
}
HONEST: dict[str, Any] = {
    "Image": "shop/wine:1",
    "User": "10001:10001",
    "Labels": LABELS,
    "HostConfig": HOST,
}
create = policy.create_rule(OWN)
endpoints = policy.endpoint_table(OWN)


# ---- The body of containers/create.


def test_an_honest_container_passes_with_what_is_always_set() -> None:
    made = create("", {**HONEST, "Domainname": "", "Tty": False, "NetworkingConfig": {"x": None}})
    assert made == {
        **HONEST,
        "HostConfig": {
            **HOST,
            "MemorySwap": 64 << 20,
            "IpcMode": "private",
            "CgroupnsMode": "private",
        },
        "NetworkingConfig": {},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Image", None),
        ("Image", "wine;rm"),
        ("User", None),
        ("User", ""),
        ("User", "0"),
        ("User", "00"),
        ("User", "root"),
        ("User", "1000:root"),
        ("User", "-1"),
        ("Env", ["PATH"]),
        ("Env", ["A=\0"]),
        ("Env", "A=b"),
        ("Cmd", ["sh"]),
        ("Entrypoint", ["sh"]),
        ("Volumes", {"/data": {}}),
        ("Volumes", {}),
        ("ExposedPorts", {"80/tcp": {}}),
        ("Hostname", "postgres"),
        ("Domainname", "corp"),
        ("MacAddress", "02:42:ac:11:00:02"),
        ("Healthcheck", {"Test": ["CMD", "true"]}),
        ("Tty", True),
        ("OpenStdin", True),
        ("hostconfig", {"Privileged": True}),
        ("HOSTCONFIG", {"Privileged": True}),
        ("ho\u017ftconfig", {"Privileged": True}),
    ],
)
def test_fields_of_a_container(field: str, value: Any) -> None:
    with pytest.raises(rules.Denied, match=field):
        create("", {**HONEST, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Privileged", True),
        ("privileged", True),
        ("Binds", ["/:/host"]),
        ("Binds", []),
        ("Mounts", [{"Type": "bind", "Source": "/", "Target": "/host"}]),
        ("VolumesFrom", ["postgres"]),
        ("VolumeDriver", "local"),
        ("NetworkMode", None),
        ("NetworkMode", "host"),
        ("NetworkMode", "default"),
        ("NetworkMode", "container:postgres"),
        ("NetworkMode", "shop-models2"),
        ("PidMode", "host"),
        ("IpcMode", "host"),
        ("IpcMode", "container:postgres"),
        ("UTSMode", "host"),
        ("UsernsMode", "host"),
        ("CgroupnsMode", "host"),
        ("Cgroup", "x"),
        ("CgroupParent", "/"),
        ("CapAdd", ["SYS_ADMIN"]),
        ("CapDrop", None),
        ("CapDrop", []),
        ("CapDrop", ["NET_RAW"]),
        ("CapDrop", ["ALL", "ALL"]),
        ("Devices", [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda"}]),
        ("DeviceRequests", [{"Count": -1}]),
        ("DeviceCgroupRules", ["a *:* rwm"]),
        ("SecurityOpt", None),
        ("SecurityOpt", ["seccomp=unconfined"]),
        ("SecurityOpt", ["no-new-privileges:true", "apparmor=unconfined"]),
        ("SecurityOpt", ["no-new-privileges:false"]),
        ("Sysctls", {"net.ipv4.ip_forward": "1"}),
        ("PortBindings", {"80/tcp": [{"HostPort": "80"}]}),
        ("PublishAllPorts", True),
        ("ExtraHosts", ["postgres:10.0.0.1"]),
        ("Dns", ["10.0.0.1"]),
        ("Links", ["postgres"]),
        ("GroupAdd", ["docker"]),
        ("MaskedPaths", []),
        ("ReadonlyPaths", []),
        ("ReadonlyRootfs", None),
        ("ReadonlyRootfs", False),
        ("ReadonlyRootfs", 1),
        ("Runtime", "kata"),
        ("Isolation", "process"),
        ("StorageOpt", {"size": "1g"}),
        ("OomKillDisable", True),
        ("OomScoreAdj", -1000),
        ("AutoRemove", True),
        ("Ulimits", [{"Name": "nproc", "Hard": -1}]),
        ("ShmSize", 1 << 40),
        ("Memory", None),
        ("Memory", 0),
        ("Memory", -1),
        ("Memory", (2 << 30) + 1),
        ("Memory", 1 << 70),
        ("Memory", 1e8),
        ("Memory", "64m"),
        ("Memory", True),
        ("MemorySwap", -1),
        ("MemorySwap", 128 << 20),
        ("MemorySwappiness", 100),
        ("NanoCpus", None),
        ("NanoCpus", 0),
        ("NanoCpus", -1),
        ("NanoCpus", 2_000_000_001),
        ("CpuQuota", 100_000),
        ("CpuPeriod", 1),
        ("CpuShares", 1 << 18),
        ("CpusetCpus", "0"),
        ("CpuRealtimeRuntime", 1),
        ("PidsLimit", None),
        ("PidsLimit", 0),
        ("PidsLimit", -1),
        ("PidsLimit", 513),
        ("BlkioWeight", 10),
        ("RestartPolicy", {"Name": "always"}),
        ("RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": -1}),
        ("LogConfig", None),
        ("LogConfig", {"Type": "syslog", "Config": HOST["LogConfig"]["Config"]}),
        ("LogConfig", {"Type": "json-file", "Config": {}}),
        ("LogConfig", {"Type": "json-file", "Config": {"max-size": "1g", "max-file": "3"}}),
        ("LogConfig", {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "99"}}),
        (
            "LogConfig",
            {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3", "tag": "x"}},
        ),
        ("Tmpfs", {"/etc": ""}),
        ("Tmpfs", {"/tmp": "exec,dev"}),
    ],
)
def test_fields_of_hostconfig(field: str, value: Any) -> None:
    with pytest.raises(rules.Denied, match=f"HostConfig.{field}"):
        create("", {**HONEST, "HostConfig": {**HOST, field: value}})


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {**LABELS, "mlops.project": "other"},
        {**LABELS, "MLOPS.project": "other"},
        {**LABELS, "com.docker.compose.project": "other"},
        {**LABELS, "com.docker.compose.service": "postgres"},
        {**LABELS, "com.docker.compose.oneoff": "True"},
        {**LABELS, "com.docker.compose.project.working_dir": "/"},
        {**LABELS, "traefik.enable": "true"},
        {**LABELS, "mlops.x": 1},
        {key: LABELS[key] for key in list(LABELS)[1:]},
    ],
)
def test_labels(labels: Any) -> None:
    with pytest.raises(rules.Denied, match="Labels"):
        create("", {**HONEST, "Labels": labels})


@pytest.mark.parametrize(
    "networks",
    [
        {"EndpointsConfig": {"shop-default": {}}},
        {"EndpointsConfig": {"shop-models": {"Aliases": ["postgres"]}}},
        {"EndpointsConfig": {"shop-models": {"Aliases": ["model-wine\n"]}}},
        {"EndpointsConfig": {"shop-models": {"Links": ["postgres"]}}},
        {"EndpointsConfig": {"shop-models": {"IPAMConfig": {"IPv4Address": "172.18.0.2"}}}},
        {"EndpointsConfig": {"shop-models": {"MacAddress": "02:42:ac:11:00:02"}}},
        {"EndpointsConfig": {"shop-models": {"DriverOpts": {"x": "y"}}}},
        {"EndpointsConfig": {"shop-models": {"NetworkID": "abc"}}},
        {"endpointsconfig": {"host": {}}},
    ],
)
def test_networks(networks: Any) -> None:
    with pytest.raises(rules.Denied, match="NetworkingConfig"):
        create("", {**HONEST, "NetworkingConfig": networks})


def test_an_alias_of_a_model_passes() -> None:
    networks = {"EndpointsConfig": {"shop-models": {"Aliases": ["model-wine"]}, "other": None}}
    made = create("", {**HONEST, "NetworkingConfig": networks})
    assert made["NetworkingConfig"] == {
        "EndpointsConfig": {"shop-models": {"Aliases": ["model-wine"]}}
    }


@pytest.mark.parametrize(
    "source",
    [
        '{"Image": "a", "Image": "b"}',
        '{"Image": "a", "image": "b"}',
        '{"HostConfig": {"Privileged": false, "privileged": true}}',
        '{"Imag\\u0065": "a", "Image": "b"}',
        '{"Memory": NaN}',
        '{"Memory": Infinity}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"Memory": ' + "9" * 5000 + "}",
        "{} {}",
        "",
        b"\xff{}",
        "\ufeff{}",
    ],
)
def test_json_that_parsers_read_differently(source: str | bytes) -> None:
    with pytest.raises(rules.Denied, match="JSON"):
        rules.parse_json(source)


# ---- Whose it is.


@pytest.mark.parametrize(
    ("labels", "ours"),
    [
        (None, False),
        ({}, False),
        ({"mlops.project": "shop"}, True),
        ({"mlops.project": "shopping"}, False),
        ({"MLOPS.PROJECT": "shop"}, False),
        ({"mlops.project": "shop", "com.docker.compose.service": "model-wine"}, True),
        ({"mlops.project": "shop", "com.docker.compose.service": "postgres"}, False),
    ],
)
def test_what_labels_make_ours(labels: dict[str, str] | None, ours: bool) -> None:
    assert OWN.owns(labels) is ours


@pytest.mark.parametrize(
    ("names", "ours"),
    [
        ([], True),
        (["shop/wine:1"], True),
        (["<none>:<none>"], True),
        (["shop/wine:1", "shop/wine@sha256:00"], True),
        (["shop/wine:1", "postgres:17"], False),
        (["shopping/wine:1"], False),
        (["registry/shop/wine:1"], False),
    ],
)
def test_what_names_make_an_image_ours(names: list[str], ours: bool) -> None:
    assert OWN.owns_image({"mlops.project": "shop"}, names) is ours


# ---- Endpoints and their options.


def chosen(method: str, path: str) -> policy.Endpoint | None:
    return next((one for one in endpoints if one.match(method, path) is not None), None)


UNKNOWN = """
POST /containers/x/attach  POST /containers/x/restart  POST /containers/x/pause
POST /containers/x/unpause POST /containers/x/rename   POST /containers/x/update
POST /containers/x/resize  POST /containers/x/exec     POST /containers/x/copy
GET /containers/x/top      GET /containers/x/changes   GET /containers/x/export
GET /containers/x/archive  PUT /containers/x/archive   HEAD /containers/x/archive
GET /containers/x/attach/ws  POST /containers/prune    GET /containers/x
POST /exec/x/start         GET /exec/x/json            POST /commit
POST /images/create        POST /images/load           GET /images/get
GET /images/search         POST /images/x/push         POST /images/x/tag
GET /images/x/get          GET /images/x/history       POST /images/prune
POST /build/prune          POST /build/cancel          GET /info
GET /events                GET /networks               GET /volumes
GET /plugins               GET /swarm                  GET /nodes
GET /services              GET /tasks                  GET /secrets
GET /configs               GET /system/df              GET /auth
POST /networks/create      POST /volumes/create        POST /services/create
POST /secrets/create       POST /configs/create        POST /auth
POST /session              POST /grpc                  POST /swarm/init
POST /system/prune         POST /networks/x/connect    POST /networks/x/disconnect
POST /networks/prune       POST /volumes/prune         DELETE /networks/x
DELETE /volumes/x          POST /plugins/pull          GET /distribution/x/json
OPTIONS /containers/json   TRACE /_ping                get /_ping
GET /_PING                 GET /Containers/json        GET /containers/json/
GET //containers/json      GET /containers//json       GET /containers/../info
POST /_ping                DELETE /containers/x/json   PUT /build
GET /containers/%78/json   GET /containers/x;y/json    GET /containers/-x/json
"""


@pytest.mark.parametrize(("method", "path"), re.findall(r"(\S+) (\S+)", UNKNOWN))
def test_endpoints_that_are_not_there(method: str, path: str) -> None:
    assert chosen(method, path) is None


@pytest.mark.parametrize(
    ("method", "path", "options", "denied"),
    [
        ("POST", "/containers/x/start", {"checkpoint": "c"}, "checkpoint"),
        ("POST", "/containers/x/start", {"checkpoint-dir": "/etc"}, "checkpoint-dir"),
        ("POST", "/containers/x/stop", {"t": ["1", "2"]}, "t"),
        ("POST", "/containers/x/stop", {"t": "-1"}, "t"),
        ("POST", "/containers/x/stop", {"t": "\u0661"}, "t"),
        ("POST", "/containers/x/kill", {"signal": "KILL;x"}, "signal"),
        ("DELETE", "/containers/x", {"link": "1"}, "link"),
        ("DELETE", "/containers/x", {"force": ["1", "1"]}, "force"),
        ("GET", "/containers/json", {"before": "postgres"}, "before"),
        ("GET", "/containers/json", {"filters": '{"volume": ["x"]}'}, "filters.volume"),
        ("GET", "/containers/json", {"filters": '{"label!": ["x"]}'}, "filters.label!"),
        ("GET", "/containers/json", {"filters": '{"label": ["a"], "Label": ["b"]}'}, "JSON"),
        ("GET", "/images/json", {"filters": '{"before": ["postgres"]}'}, "filters.before"),
        ("POST", "/containers/create", {}, "name"),
        ("POST", "/containers/create", {"name": "postgres"}, "name"),
        ("POST", "/containers/create", {"name": "shopmodel-x"}, "name"),
        ("POST", "/containers/create", {"name": "shop-model-x", "platform": "linux/x"}, "platform"),
        ("POST", "/build", {}, "t"),
        ("POST", "/build", {"t": "postgres:17"}, "t"),
        ("POST", "/build", {"t": ["shop/x:1", "postgres:17"]}, "t"),
        ("POST", "/build", {"t": "shop/x:1\n"}, "t"),
        ("POST", "/build", {"t": "shop/../postgres"}, "t"),
        ("POST", "/build", {"t": "shop/x@sha256:00"}, "t"),
        *(
            ("POST", "/build", {"t": "shop/x", name: value}, name)
            for name, value in {
                "networkmode": "host",
                "remote": "https://example.org/x.git",
                "extrahosts": "postgres:10.0.0.1",
                "securityopt": '["seccomp=unconfined"]',
                "cachefrom": '["postgres:17"]',
                "cgroupparent": "/",
                "session": "x",
                "outputs": '[{"Type": "local"}]',
                "version": "2",
                "squash": "1",
                "isolation": "process",
                "ulimits": '[{"Name": "nproc", "Hard": -1}]',
                "pull": "1",
                "target": "x",
                "platform": "linux/arm64",
                "shmsize": "1",
                "memory": "-1",
                "memswap": "-1",
                "cpuquota": "-1",
                "cpushares": "1024",
                "cpusetcpus": "0-1",
                "buildid": "x",
                "dockerfile": "../Dockerfile",
                "labels": '{"com.docker.compose.project": "other"}',
                "buildargs": '{"A": null}',
            }.items()
        ),
        ("POST", "/build", {"t": "shop/x", "labels": '{"mlops.project": "other"}'}, "labels"),
        ("POST", "/build", {"t": "shop/x", "dockerfile": "a/Dockerfile"}, "dockerfile"),
        ("POST", "/build", {"t": "shop/x", "dockerfile": ".."}, "dockerfile"),
        ("POST", "/build", {"t": "shop/x", "Remote": "https://example.org"}, "Remote"),
    ],
)
def test_options(method: str, path: str, options: dict[str, Any], denied: str) -> None:
    endpoint = chosen(method, path)
    assert endpoint is not None
    with pytest.raises(rules.Denied, match=denied.replace("!", "\\!")):
        endpoint.options("option", options)


def test_a_build_is_always_bounded() -> None:
    endpoint = chosen("POST", "/build")
    assert endpoint is not None
    asked = endpoint.options("option", {"t": "shop/x", "rm": "False", "memory": "0", "q": "False"})
    assert asked == {
        "t": ["shop/x"],
        "version": "1",
        "rm": "1",
        "forcerm": "1",
        "memory": str(2 << 30),
        "memswap": str(2 << 30),
        "cpuperiod": "100000",
        "cpuquota": "200000",
    }


@pytest.mark.parametrize("given", [None, '{"label": ["a=b"]}', '{"label": {"a=b": true}}'])
def test_lists_are_narrowed(given: str | None) -> None:
    endpoint = chosen("GET", "/images/json")
    assert endpoint is not None
    asked = endpoint.options("option", {"filters": given} if given else {})
    assert json.loads(asked["filters"])["label"] == [
        *(["a=b"] if given else []),
        "mlops.project=shop",
    ]


# ---- HTTP.


async def heard(source: bytes, read: Callable[[asyncio.StreamReader], Any]) -> Any:
    reader = asyncio.StreamReader(limit=wire.PIECE)
    reader.feed_data(source)
    reader.feed_eof()
    return await read(reader)


HEADS = {
    "bare LF": b"GET /_ping HTTP/1.1\nHost: x\n\n\r\n\r\n",
    "bare LF in a header": b"GET /_ping HTTP/1.1\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n",
    "bare CR": b"GET /_ping HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
    "folded header": b"GET /_ping HTTP/1.1\r\nA: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "space before the colon": b"GET /_ping HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
    "twice": b"GET /_ping HTTP/1.1\r\nContent-Length: 0\r\ncontent-length: 5\r\n\r\n",
    "two hosts": b"GET /_ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no colon": b"GET /_ping HTTP/1.1\r\nHost\r\n\r\n",
    "no name": b"GET /_ping HTTP/1.1\r\n: x\r\n\r\n",
    "NUL in a header": b"GET /_ping HTTP/1.1\r\nA: b\0\r\n\r\n",
    "high byte in a name": b"GET /_ping HTTP/1.1\r\nTransfer-Encod\xefng: chunked\r\n\r\n",
    "absolute form": b"GET http://x/info HTTP/1.1\r\n\r\n",
    "authority form": b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\n\r\n",
    "two spaces": b"GET  /_ping HTTP/1.1\r\n\r\n",
    "space in the target": b"GET /_ping /info HTTP/1.1\r\n\r\n",
    "NUL in the target": b"GET /_ping\0 HTTP/1.1\r\n\r\n",
    "HTTP/1.0": b"GET /_ping HTTP/1.0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "HTTP/0.9": b"GET /_ping\r\n\r\n",
    "lower case": b"get /_ping HTTP/1.1\r\n\r\n",
    "leading line": b"\r\nGET /_ping HTTP/1.1\r\n\r\n",
    "upgrade": b"POST /x HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
    "expect": b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    "trailer": b"POST /x HTTP/1.1\r\nTrailer: A\r\n\r\n",
    "unfinished": b"GET /_ping HTTP/1.1\r\nHost: x\r\n",
    "too large": b"GET /_ping HTTP/1.1\r\nA: " + b"b" * (1 << 18) + b"\r\n\r\n",
}


@pytest.mark.parametrize("source", HEADS.values(), ids=HEADS.keys())
def test_heads_that_servers_read_differently(source: bytes) -> None:
    with pytest.raises(rules.Refusal) as raised:
        asyncio.run(heard(source, wire.read_head))
    assert raised.value.status in {400, 431}


def test_a_head() -> None:
    head = asyncio.run(heard(http("GET", "/a/b?c=d?e", Accept="*/*"), wire.read_head))
    assert (head.method, head.path, head.query) == ("GET", "/a/b", "c=d?e")
    assert head.headers["accept"] == "*/*"


def body_of(headers: dict[str, str], source: bytes, limit: int = 100) -> Any:
    return asyncio.run(heard(source, lambda reader: wire.Body(reader, headers, limit).whole()))


CHUNKED = {"transfer-encoding": "chunked"}


def test_bodies() -> None:
    assert body_of({"content-length": "3"}, b"abcdef") == b"abc"
    assert body_of(CHUNKED, b"3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\nGET") == b"abc0123456789"
    assert body_of({}, b"abc") == b""


BODIES: dict[str, tuple[dict[str, str], bytes]] = {
    "both framings": ({**CHUNKED, "content-length": "3"}, b"0\r\n\r\n"),
    "other coding": ({"transfer-encoding": "gzip, chunked"}, b"0\r\n\r\n"),
    "coding in capitals": ({"transfer-encoding": "Chunked"}, b"0\r\n\r\n"),
    "no coding": ({"transfer-encoding": ""}, b"0\r\n\r\n"),
    "identity": ({"transfer-encoding": "identity"}, b"0\r\n\r\n"),
    "plus": ({"content-length": "+3"}, b"abc"),
    "minus": ({"content-length": "-3"}, b"abc"),
    "underscore": ({"content-length": "1_0"}, b"0123456789"),
    "list": ({"content-length": "3, 3"}, b"abc"),
    "hexadecimal": ({"content-length": "0x3"}, b"abc"),
    "empty": ({"content-length": ""}, b"abc"),
    "other digits": ({"content-length": "\u00b3"}, b"abc"),
    "too long": ({"content-length": "101"}, b"a" * 101),
    "too long in chunks": (CHUNKED, b"65\r\n" + b"a" * 101 + b"\r\n0\r\n\r\n"),
    "chunk size with 0x": (CHUNKED, b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a sign": (CHUNKED, b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with an underscore": (CHUNKED, b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    "chunk size with a blank": (CHUNKED, b"3 \r\nabc\r\n0\r\n\r\n"),
    "chunk extension": (CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n"),
    "huge chunk": (CHUNKED, b"fffffffff\r\nabc"),
    "bare LF after the size": (CHUNKED, b"3\nabc\r\n0\r\n\r\n"),
    "chunk longer than said": (CHUNKED, b"3\r\nabcdef\r\n0\r\n\r\n"),
    "trailer": (CHUNKED, b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
    "empty size": (CHUNKED, b"\r\nabc\r\n0\r\n\r\n"),
    "endless line": (CHUNKED, b"3" * (1 << 18)),
}


@pytest.mark.parametrize(("headers", "source"), BODIES.values(), ids=BODIES.keys())
def test_bodies_that_servers_read_differently(headers: dict[str, str], source: bytes) -> None:
    with pytest.raises(rules.Refusal) as raised:
        body_of(headers, source)
    assert raised.value.status in {400, 413}


@pytest.mark.parametrize(
    ("headers", "source"),
    [({"content-length": "9"}, b"abc"), (CHUNKED, b"3\r\nab"), (CHUNKED, b"3")],
)
def test_a_client_that_hangs_up(headers: dict[str, str], source: bytes) -> None:
    with pytest.raises(wire.ClientGoneError):
        body_of(headers, source)


def test_slow_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_S", 0.05)
    monkeypatch.setattr(wire, "IDLE_S", 0.05)

    async def silent(read: Callable[[asyncio.StreamReader], Any]) -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"3")
        with pytest.raises(rules.Refusal) as raised:
            await read(reader)
        assert raised.value.status == 408

    asyncio.run(silent(wire.read_head))
    asyncio.run(silent(lambda reader: wire.Body(reader, CHUNKED, 9).whole()))
    asyncio.run(silent(lambda reader: wire.Body(reader, {"content-length": "9"}, 9).whole()))


# ---- Dockerfiles.


@pytest.mark.parametrize(
    ("dockerfile", "given", "images"),
    [
        ("FROM a\nRUN x\n", {}, {"a"}),
        ("ARG BASE=a:1\nFROM ${BASE}\n", {}, {"a:1"}),
        ("ARG BASE=a:1\nFROM $BASE AS b\n", {"BASE": "c"}, {"c"}),
        ("ARG BASE\nFROM a${BASE}z", {"BASE": "c"}, {"acz"}),
        ("FROM --platform=linux/amd64 a as b\nFROM b\nCOPY --from=b --chown=1:1 x y", {}, {"a"}),
        ("FROM a AS b\nFROM c\nCOPY --from=B x y\nCOPY --from=0 x y\n", {}, {"a", "c"}),
        ("FROM a\nCOPY --from=d x y\n", {}, {"a", "d"}),
        ("FROM a\nCOPY --from=0 x y\n", {}, {"a", "0"}),
        ("FROM a AS b\nCOPY --from=b x y\n", {}, {"a", "b"}),
        ("FROM b\nFROM a AS b\n", {}, {"a", "b"}),
        ("FROM scratch\n", {}, set()),
        ("# c\n  from a\r\nRUN x \\\n  # c \\\n  && y \\  \n z\n\n\tRUN q", {}, {"a"}),
        ("FROM a \\\n AS b\nFROM b", {}, {"a"}),
        ("FROM a\nARG X=1 Y=2\nRUN x\n", {}, {"a"}),
    ],
)
def test_what_a_dockerfile_is_built_from(
    dockerfile: str, given: dict[str, str], images: set[str]
) -> None:
    assert contexts.sources(dockerfile.encode(), given) == images


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM a\nADD http://127.0.0.1/ /x",
        "FROM a\nadd x y",
        "FROM a\n  Add x y",
        "FROM a\nA\\\nDD http://127.0.0.1/ /x",
        "FROM a\nADD\thttp://127.0.0.1/ /x",
        "FROM a\nONBUILD ADD http://127.0.0.1/ /x",
        "FROM a\nVOLUME /x",
        "FROM a\nMAINTAINER x",
        "FROM a\n<<EOF\nEOF",
        "FROM a\nRUN <<EOF\nx\nEOF",
        "FROM a\nCOPY <<EOF /x\nFROM b AS c\nEOF",
        "FROM a\nRUN --mount=type=bind,from=b x",
        "FROM a\nRUN   --security=insecure x",
        "FROM a\nCOPY --fr\\om=b x y",
        'FROM a\nCOPY --"from"=b x y',
        "FROM a\nCOPY --from=$B x y",
        "FROM a\nCOPY --link x y",
        "#escape=`\nFROM a\n# x `\nADD x y",
        "# Escape = `\nFROM a",
        "FROM a\nRUN x \\\\\nRUN y",
        "FROM a\nRUN x \\\n\nRUN y",
        "FROM a # b",
        "FROM a b",
        "FROM",
        "ARG A=b A=c\nFROM $A",
        "ARG A=b\nARG A=c\nFROM $A",
        'ARG A="b"\nFROM $A',
        "ARG A=$B\nFROM $A",
        "FROM a\x0bADD x",
        "FROM a\n\u00a0ADD x y",
        "FROM a\rADD x y",
        "\ufeffFROM a",
        "FROM a\n\0",
    ],
)
def test_dockerfiles_that_are_denied(dockerfile: str) -> None:
    with pytest.raises(rules.Denied, match="Dockerfile"):
        contexts.sources(dockerfile.encode(), {})


def test_a_stage_cannot_hide_an_image_behind_a_continuation() -> None:
    """Joined without its blank, `--from=evil` would read as the stage `evilx`."""
    dockerfile = b"FROM a AS evilx\nFROM a\nCOPY --from=evil\\\n x y /\n"
    assert contexts.sources(dockerfile, {}) == {"a", "evil"}


# ---- Contexts.


async def _passed(source: bytes, limit: int = 1 << 30) -> tuple[bytes, bytes]:
    reader = asyncio.StreamReader()
    reader.feed_data(source)
    reader.feed_eof()
    sent = bytearray()

    async def send(piece: bytes) -> None:
        sent.extend(piece)

    body = wire.Body(reader, {"content-length": str(len(source))}, limit)
    last, text = await contexts.copy_context(body, "Dockerfile", send)
    return bytes(sent) + last, text


def test_a_context_ends_with_the_text_that_was_checked() -> None:
    long = "d/" + "n" * 150
    files = {"a": "1" * 1000, "Dockerfile": "FROM a", long: "2", "Dockerfile2": "FROM b"}
    passed, text = asyncio.run(_passed(archive(files)))
    assert text == b"FROM a"
    with tarfile.open(fileobj=io.BytesIO(passed)) as tar:
        assert tar.getnames() == [".", "a", "Dockerfile", long, "Dockerfile2", "Dockerfile"]
        last = tar.extractfile(tar.getmembers()[-1])
        assert last is not None
        assert last.read() == b"FROM a"


def changed(at: slice, value: bytes, files: dict[str, Any] | None = None) -> bytes:
    """An archive with bytes of its first header replaced; the checksum mended."""
    raw = bytearray(archive(files or {"x": "FROM b", "Dockerfile": "FROM a"}))
    raw[at] = value
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw)


SIZE, KIND = slice(124, 136), slice(156, 157)
CONTEXTS = {
    "no Dockerfile": archive({"a": "b"}),
    "Dockerfile deeper": archive({"x/Dockerfile": "FROM a"}),
    "Dockerfile a link": changed(KIND, b"2", {"Dockerfile": ""}),
    "size with leading NULs": changed(SIZE, b"\0\0\0\00000000010"),
    "size in base 256": changed(SIZE, b"\x80" + bytes(10) + b"\x06"),
    "size with an underscore": changed(SIZE, b"0000000_006\0"),
    "size with a sign": changed(SIZE, b"-0000000006\0"),
    "sparse file": changed(KIND, b"S"),
    "old file": changed(KIND, b"\0"),
    "device": changed(KIND, b"3"),
    "global header": changed(KIND, b"g"),
    "long name": changed(KIND, b"L"),
    "link with content": changed(KIND, b"2"),
    "folder with content": changed(KIND, b"5"),
    "extended header with a size": changed(
        KIND, b"x", {"x": "10 size=00\n", "Dockerfile": "FROM a"}
    ),
    "with a size, later": changed(KIND, b"x", {"x": "7 a=b\n+9 size=0\n", "Dockerfile": "FROM a"}),
    "sparse by extension": changed(
        KIND, b"x", {"x": "22 GNU.sparse.major=1\n", "Dockerfile": "FROM a"}
    ),
    "huge Dockerfile": archive({"Dockerfile": "#" * (1 << 19)}),
    "gzip": b"\x1f\x8b\x08" + bytes(range(256)) * 8,
    "nothing": b"",
    "only the end": bytes(1024),
    "cut": archive({"Dockerfile": "FROM a"})[:700],
}


@pytest.mark.parametrize("source", CONTEXTS.values(), ids=CONTEXTS.keys())
def test_contexts_that_are_refused(source: bytes) -> None:
    with pytest.raises(rules.Refusal, match=r"context|ends too early"):
        asyncio.run(_passed(source))


# ---- The service.


def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    socket = str(tmp_path / "nobody.sock")
    with running(tmp_path / "log", PROJECT="shop", NETWORK="n", SOCKET=socket) as one:
        status, said = ask(one.address, http("GET", "/_ping"))
        assert (status, json.loads(said.partition(b"\r\n\r\n")[2])["message"][:40]) == (
            502,
            "docker filter: the engine does not answe",
        )
        checked = subprocess.run(
            [sys.executable, str(HERE / "filter.py"), "health"],
            env={"FILTER_PROJECT": "shop", "FILTER_NETWORK": "n", "FILTER_LISTEN": f":{one.port}"},
            timeout=10,
            check=False,
        )
        assert checked.returncode == 1
        one.process.terminate()
        assert one.process.wait(5) == 0


def test_a_denial_is_a_line_in_the_log_that_nobody_can_forge(tmp_path: Path) -> None:
    with running(tmp_path / "log", PROJECT="shop", NETWORK="n") as one:
        status, said = ask(one.address, http("GET", "/info?x=%0aALLOW"))
        assert status == 403
        message = json.loads(said.partition(b"\r\n\r\n")[2])["message"]
        assert message.startswith(
            'docker filter: endpoint: "GET /info" is denied; allowed: GET HEAD'
        )
        ask(one.address, b"GET /a\nALLOW HTTP/1.1\r\n\r\n")
        ask(one.address, http("POST", "/containers/create?name=shop-model-x", '{"a": "\\nALLOW"}'))
        until(lambda: one.log.count("DENY") == 3, 5, "it has said so")
        assert "\nALLOW" not in one.log


@pytest.mark.parametrize(
    "variables", [{}, {"PROJECT": "x"}, {"PROJECT": "x", "NETWORK": "n", "MAX_MEMORY": "lots"}]
)
def test_settings_that_are_missing_or_wrong(variables: dict[str, str]) -> None:
    environment = {f"FILTER_{name}": value for name, value in variables.items()}
    with pytest.raises(SystemExit, match="FILTER_"):
        policy.own_of(environment)


def test_settings() -> None:
    found = policy.own_of(
        {
            "FILTER_PROJECT": "p",
            "FILTER_NETWORK": "n",
            "FILTER_MAX_MEMORY": "512m",
            "FILTER_MAX_CPUS": "1.5",
            "FILTER_BASES": "a b",
        }
    )
    assert (found.memory, found.cpus, found.bases) == (512 << 20, 1.5, ("a", "b"))
