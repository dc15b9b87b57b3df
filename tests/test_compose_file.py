"""Checks of the compose file that need no engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tasks.base.settings import REPOSITORY, Settings
from tasks.stack.embedded import airflow

TEXT = (REPOSITORY / "docker-compose.yaml").read_text()
EXAMPLE = (REPOSITORY / ".env.example").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
SHELL_VARIABLES = {"PWD"}


def test_every_variable_is_explained_and_no_other() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT)) - SHELL_VARIABLES | {"COMPOSE_IGNORE_ORPHANS"}
    assert set(re.findall(r"^#([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)) == used


def test_the_example_says_the_defaults() -> None:
    shown = dict(re.findall(r"^#([A-Z0-9_]+)=(\S*)", EXAMPLE, re.MULTILINE))
    for name, default in re.findall(r"\$\{([A-Z0-9_]+):-([^${}]*)\}", TEXT):
        if name not in {"MLOPS_DOMAIN", *SHELL_VARIABLES}:  # a URL needs some host
            assert default == shown[name], name


def test_our_own_variables_are_settings() -> None:
    known = {f"MLOPS_{name}".upper() for name in Settings.model_fields}
    given = {
        name
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("MLOPS_") and service["image"].endswith("/airflow")
    }
    not_settings = {"MLOPS_SECRETS", "MLOPS_PROFILES", "MLOPS_ADMIN_DATABASE", "MLOPS_ROLES"}
    assert given - not_settings <= known


def test_both_stacks_read_the_same_settings_of_airflow() -> None:
    path = airflow.COMMON.relative_to(REPOSITORY)
    programs = [name for name in SERVICES if name.startswith("airflow-")]
    assert len(programs) >= 5
    for name in (*programs, "cli"):
        assert SERVICES[name]["env_file"] == str(path), name
    common = set(re.findall(r"^([A-Z0-9_]+)=", airflow.COMMON.read_text(), re.MULTILINE))
    assert "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT" in common
    assert common.isdisjoint(SERVICES["airflow-scheduler"]["environment"])


def test_it_contains_no_password() -> None:
    assert not re.search(r"password['\"]?\s*[:=]\s*['\"]?\w", TEXT, re.IGNORECASE)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_fenced_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["init"]
    assert "latest" not in service["image"]
    for port in service.get("ports", ()):
        assert port.startswith(("127.0.0.1:", "${MLOPS_BIND:-127.0.0.1}:"))
    if service["restart"] == "unless-stopped":
        assert "healthcheck" in service
