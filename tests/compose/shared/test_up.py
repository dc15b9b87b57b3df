"""`docker compose up -d --wait`, and how its containers are fenced in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compose.conftest import Project
from tests.compose.shared.conftest import IDLE_BYTES, FirstUp
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

ROOT = {"secrets", "docker-filter", "postgres"}
"""The one gives files to their readers, the other reads the socket, the last becomes `postgres`."""
ADDED = {
    "secrets": {"CHOWN", "DAC_OVERRIDE", "FOWNER"},
    "postgres": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"},
    "gateway": {"NET_BIND_SERVICE"},
}


def service_of(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def test_all_is_healthy(first_up: FirstUp) -> None:
    for name, container in first_up.project.containers().items():
        state = container["State"]
        if state["Status"] == "exited":
            assert state["ExitCode"] == 0, service_of(container)
        elif "-model-" in name:  # it may have been started by the test before
            until(lambda: healthy(first_up.project, name), 60, f"{name} is healthy")  # noqa: B023
        else:
            assert healthy(first_up.project, name), service_of(container)


def healthy(project: Project, name: str) -> bool:
    return str(project.containers()[name]["State"]["Health"]["Status"]) == "healthy"


def test_a_second_up_changes_nothing(project: Project) -> None:
    before = {name: container["Id"] for name, container in project.containers().items()}
    running = {
        name: container["State"]["StartedAt"]
        for name, container in project.containers().items()
        if container["State"]["Running"]
    }
    project.up()
    after = project.containers()
    assert {name: container["Id"] for name, container in after.items()} == before
    assert {name: after[name]["State"]["StartedAt"] for name in running} == running
    assert all(container["State"]["ExitCode"] == 0 for container in after.values())


def test_idle_memory(first_up: FirstUp) -> None:
    assert any("airflow-scheduler" in name for name in first_up.memory)
    assert sum(first_up.memory.values()) <= IDLE_BYTES, first_up.memory


def test_ports_are_published_on_this_machine_only(project: Project) -> None:
    published = {
        binding["HostPort"]
        for container in project.containers().values()
        for bindings in (container["HostConfig"]["PortBindings"] or {}).values()
        for binding in bindings
        if binding["HostIp"] == "127.0.0.1" or pytest.fail(f"{binding} is open to others")
    }
    assert published == {value for name, value in project.env.items() if name.endswith("_PORT")}


def test_every_container_is_fenced_in(project: Project) -> None:
    for container in project.containers().values():
        service, host = service_of(container), container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert set(host["CapAdd"] or ()) == ADDED.get(service, set()), service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert not host["Privileged"], service
        assert host["Memory"] > 0, service
        assert host["Init"], service
        assert {"max-size", "max-file"} <= set(host["LogConfig"]["Config"]), service
        user = container["Config"]["User"]
        assert (user in ("", "0:0")) == (service in ROOT), (service, user)
        sockets = [mount for mount in container["Mounts"] if "docker.sock" in mount["Source"]]
        assert bool(sockets) == (service == "docker-filter"), service


def test_the_programs_of_postgres_have_no_rights(project: Project) -> None:
    # One reading of each process: backends come and go at any time.
    read = "grep -hsE '^(Name|CapEff):' /proc/[0-9]*/status; true"
    status = project.inside("postgres", "sh", "-c", read)
    fields = [line.split()[-1] for line in status.splitlines()]
    servers = [
        int(rights, 16)
        for name, rights in zip(fields[::2], fields[1::2], strict=True)
        if name == "postgres"
    ]
    assert servers
    assert set(servers) == {0}
