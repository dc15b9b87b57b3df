"""The filter's rules for containers and their owners, without an engine.

The values here go beyond those that attacks_create.py tries.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docker.filtering import FILTER, http, message, running_filter, send
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
check_container = policy.create_rule(SETTINGS)


# ---- The body of containers/create.


def test_an_honest_container_passes_with_fixed_fields_added() -> None:
    passed = check_container(
        "", {**HONEST, "Domainname": "", "Tty": False, "NetworkingConfig": {"x": None}}
    )
    assert passed == {
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
        ("User", "00"),
        ("User", "root"),
        ("User", "1000:root"),
        ("User", "-1"),
        ("Env", ["PATH"]),
        ("Env", ["A=\0"]),
        ("Env", "A=b"),
        ("Entrypoint", ["sh"]),
        ("Volumes", {}),
        ("ExposedPorts", {"80/tcp": {}}),
        ("Domainname", "corp"),
        ("MacAddress", "02:42:ac:11:00:02"),
        ("Healthcheck", {"Test": ["CMD", "true"]}),
        ("Tty", True),
        ("OpenStdin", True),
        ("hostconfig", {"Privileged": True}),
        ("ho\u017ftconfig", {"Privileged": True}),
    ],
)
def test_fields_of_a_container(field: str, value: Any) -> None:
    with pytest.raises(rules.Denied, match=field):
        check_container("", {**HONEST, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Binds", []),
        ("Mounts", [{"Type": "volume", "Target": "/x"}]),
        ("VolumeDriver", "local"),
        ("NetworkMode", None),
        ("NetworkMode", "shop-models2"),
        ("IpcMode", "container:postgres"),
        ("Cgroup", "x"),
        ("CapDrop", None),
        ("CapDrop", ["NET_RAW"]),
        ("CapDrop", ["ALL", "ALL"]),
        ("SecurityOpt", None),
        ("SecurityOpt", ["seccomp=unconfined"]),
        ("SecurityOpt", ["no-new-privileges:false"]),
        ("Dns", ["10.0.0.1"]),
        ("ReadonlyRootfs", None),
        ("ReadonlyRootfs", 1),
        ("Runtime", "kata"),
        ("Isolation", "process"),
        ("StorageOpt", {"size": "1g"}),
        ("OomKillDisable", True),
        ("AutoRemove", True),
        ("Ulimits", [{"Name": "nproc", "Hard": -1}]),
        ("ShmSize", 1 << 40),
        ("Memory", None),
        ("Memory", -1),
        ("Memory", (2 << 30) + 1),
        ("Memory", 1 << 70),
        ("Memory", 1e8),
        ("Memory", "64m"),
        ("Memory", True),
        ("MemorySwappiness", 100),
        ("NanoCpus", None),
        ("NanoCpus", -1),
        ("NanoCpus", 2_000_000_001),
        ("CpuPeriod", 1),
        ("CpusetCpus", "0"),
        ("CpuRealtimeRuntime", 1),
        ("PidsLimit", None),
        ("PidsLimit", 513),
        ("BlkioWeight", 10),
        ("RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": -1}),
        ("LogConfig", None),
        ("LogConfig", {"Type": "syslog", "Config": HOST["LogConfig"]["Config"]}),
        ("LogConfig", {"Type": "json-file", "Config": {"max-size": "1g", "max-file": "3"}}),
        ("LogConfig", {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "99"}}),
        (
            "LogConfig",
            {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3", "tag": "x"}},
        ),
        ("Tmpfs", {"/tmp": "exec,dev"}),
    ],
)
def test_fields_of_hostconfig(field: str, value: Any) -> None:
    with pytest.raises(rules.Denied, match=f"HostConfig.{field}"):
        check_container("", {**HONEST, "HostConfig": {**HOST, field: value}})


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {**LABELS, "mlops.project": "other"},
        {**LABELS, "MLOPS.project": "other"},
        {**LABELS, "com.docker.compose.project": "other"},
        {**LABELS, "com.docker.compose.oneoff": "True"},
        {**LABELS, "com.docker.compose.project.working_dir": "/"},
        {**LABELS, "mlops.x": 1},
        {**LABELS, "org.opencontainers.image.description": "one\nmlops.project=other"},
        {**LABELS, "owner": "a\x00b"},
        {key: LABELS[key] for key in list(LABELS)[1:]},
    ],
)
def test_labels(labels: Any) -> None:
    with pytest.raises(rules.Denied, match="Labels"):
        check_container("", {**HONEST, "Labels": labels})


def test_labels_in_any_language_pass() -> None:
    labels = {**LABELS, "org.opencontainers.image.description": "Größe, in µm: 大きさ"}
    assert check_container("", {**HONEST, "Labels": labels})["Labels"] == labels


@pytest.mark.parametrize(
    "networks",
    [
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
        check_container("", {**HONEST, "NetworkingConfig": networks})


def test_an_alias_of_a_model_passes() -> None:
    networks = {"EndpointsConfig": {"shop-models": {"Aliases": ["model-wine"]}, "other": None}}
    passed = check_container("", {**HONEST, "NetworkingConfig": networks})
    assert passed["NetworkingConfig"] == {
        "EndpointsConfig": {"shop-models": {"Aliases": ["model-wine"]}}
    }


@pytest.mark.parametrize(
    "source",
    [
        '{"Imag\\u0065": "a", "Image": "b"}',
        '{"Memory": NaN}',
        '{"Memory": Infinity}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"Memory": ' + "9" * 5000 + "}",
        "",
        b"\xff{}",
        "\ufeff{}",
    ],
)
def test_json_that_parsers_read_differently(source: str | bytes) -> None:
    with pytest.raises(rules.Denied, match="JSON"):
        rules.parse_json(source)


# ---- Ownership.


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
def test_ownership_by_labels(labels: dict[str, str] | None, ours: bool) -> None:
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
def test_ownership_of_images_by_names(names: list[str], ours: bool) -> None:
    assert SETTINGS.owns_image({"mlops.project": "shop"}, names) is ours


# ---- The service.


def test_a_missing_engine_is_reported(tmp_path: Path) -> None:
    socket = str(tmp_path / "nobody.sock")
    settings = {"PROJECT": "shop", "NETWORK": "n"}
    with running_filter(tmp_path / "log", SOCKET=socket, **settings) as service:
        status, reply = send(service.address, http("GET", "/_ping"))
        assert status == 502
        assert message(reply).startswith("docker filter: the engine does not answer")
        environment = {"FILTER_PROJECT": "shop", "FILTER_NETWORK": "n"}
        health = subprocess.run(
            [sys.executable, str(FILTER / "filter.py"), "health"],
            env={**environment, "FILTER_LISTEN": f":{service.port}"},
            timeout=10,
            check=False,
        )
        assert health.returncode == 1
        service.process.terminate()
        assert service.process.wait(5) == 0


def test_a_denial_is_a_line_in_the_log_that_nobody_can_forge(tmp_path: Path) -> None:
    with running_filter(tmp_path / "log", PROJECT="shop", NETWORK="n") as service:
        status, reply = send(service.address, http("GET", "/info?x=%0aALLOW"))
        assert status == 403
        assert message(reply).startswith(
            'docker filter: endpoint: "GET /info" is denied; allowed: GET HEAD'
        )
        send(service.address, b"GET /a\nALLOW HTTP/1.1\r\n\r\n")
        body = '{"a": "\\nALLOW"}'
        send(service.address, http("POST", "/containers/create?name=shop-model-x", body))
        until(lambda: service.log.count("DENY") == 3, 5, "the log has three denials")
        assert "\nALLOW" not in service.log


@pytest.mark.parametrize(
    "variables", [{}, {"PROJECT": "x"}, {"PROJECT": "x", "NETWORK": "n", "MAX_MEMORY": "lots"}]
)
def test_missing_or_invalid_settings(variables: dict[str, str]) -> None:
    environment = {f"FILTER_{name}": value for name, value in variables.items()}
    with pytest.raises(SystemExit, match="FILTER_"):
        policy.read_settings(environment)


def test_settings() -> None:
    settings = policy.read_settings(
        {
            "FILTER_PROJECT": "p",
            "FILTER_NETWORK": "n",
            "FILTER_MAX_MEMORY": "512m",
            "FILTER_MAX_CPUS": "1.5",
            "FILTER_BASES": "a b",
        }
    )
    assert (settings.memory, settings.cpus, settings.bases) == (512 << 20, 1.5, ("a", "b"))
