"""The filter's rules for containers and whose they are, without an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.filtering import HERE, ask, http, running
from tests.waiting import until

# isort: split
import policy
import rules

SETTINGS = policy.Settings("shop", "shop-models", prefix="shop")
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
create = policy.create_rule(SETTINGS)


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
        {**LABELS, "org.opencontainers.image.description": "one\nmlops.project=other"},
        {**LABELS, "owner": "a\x00b"},
        {key: LABELS[key] for key in list(LABELS)[1:]},
    ],
)
def test_labels(labels: Any) -> None:
    with pytest.raises(rules.Denied, match="Labels"):
        create("", {**HONEST, "Labels": labels})


def test_labels_may_be_in_any_language() -> None:
    labels = {**LABELS, "org.opencontainers.image.description": "Größe, in µm: 大きさ"}
    assert create("", {**HONEST, "Labels": labels})["Labels"] == labels


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
    assert SETTINGS.owns(labels) is ours


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
    assert SETTINGS.owns_image({"mlops.project": "shop"}, names) is ours


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
        policy.read_settings(environment)


def test_settings() -> None:
    found = policy.read_settings(
        {
            "FILTER_PROJECT": "p",
            "FILTER_NETWORK": "n",
            "FILTER_MAX_MEMORY": "512m",
            "FILTER_MAX_CPUS": "1.5",
            "FILTER_BASES": "a b",
        }
    )
    assert (found.memory, found.cpus, found.bases) == (512 << 20, 1.5, ("a", "b"))
