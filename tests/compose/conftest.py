"""The compose stack from a copy of the tree, under a project and on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from benchmarks.compose import PORTS
from tasks.base.settings import REPOSITORY
from tests.conftest import unused_ports
from tests.waiting import until

IMAGES = "mlops-test-stack"
"""Kept after the tests: the next ones find them built."""
PROBE = "python:3.11-slim"
READ = """
import json, pathlib
print(json.dumps({path.name: path.read_text() for path in pathlib.Path("/secrets").iterdir()}))
"""


@dataclass(frozen=True)
class Project:
    """One compose project as a test drives it."""

    folder: Path
    name: str
    env: dict[str, str] = field(default_factory=dict)

    def compose(
        self, *words: str, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """`docker compose …` in the copy; what it says is shown when it fails."""
        done = subprocess.run(
            ["docker", "compose", *words],
            cwd=self.folder,
            env={**os.environ, "PWD": str(self.folder), **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert not (check and done.returncode), (
            f"{words}: {done.stdout[-3000:]}{done.stderr[-5000:]}"
        )
        return done

    def up(self, *options: str) -> None:
        """`up -d --wait`."""
        self.compose("up", "-d", "--wait", *options)

    def cli(
        self, *words: str, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """A command of ours, as a user types it."""
        return self.compose("run", "--rm", "-T", "cli", *words, check=check, timeout=timeout)

    def inside(self, service: str, *command: str, check: bool = True) -> str:
        """What a command in a running service prints."""
        return self.compose("exec", "-T", service, *command, check=check).stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine says of each container of the project, by name."""
        ids = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}")
        # Not checked: one may have ended since, and what is said then is of the others.
        inspected = docker("inspect", "--type", "container", *ids.split(), check=False)
        return {container["Name"].lstrip("/"): container for container in json.loads(inspected)}

    def service(self, name: str) -> dict[str, Any]:
        """What the engine says of a service's first container."""
        return self.containers()[f"{self.name}-{name}-1"]

    def url(self, what: str = "GATEWAY") -> str:
        """Where a service is published."""
        return f"http://127.0.0.1:{self.env[f'MLOPS_{what}_PORT']}"

    def exports(self) -> dict[str, str]:
        """What `env` prints."""
        lines = self.cli("env").stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def secrets(self) -> dict[str, str]:
        """Every secret of the project, by name; none is a mere key id."""
        text = docker(
            "run", "--rm", "-v", f"{self.name}_secrets:/secrets:ro", PROBE, "python3", "-c", READ
        )
        return {name: value for name, value in json.loads(text).items() if len(value) > 12}

    def with_env(self, **changes: str) -> Project:
        """The same project with other settings."""
        return replace(self, env={**self.env, **changes})


def docker(*words: str, check: bool = True, timeout: float = 120) -> str:
    """What a `docker` command prints."""
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, timeout=timeout
    )
    assert not (check and done.returncode), f"{words}: {done.stderr}"
    return done.stdout


def copy_tree(folder: Path) -> Path:
    """What a clone of this tree would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o755)  # pytest's folders are closed to the containers' users
    return folder


def new_project(folder: Path) -> Project:
    """A project with a name and ports that nobody else uses."""
    name = f"mlops-test-{uuid4().hex[:6]}"
    numbers = unused_ports(len(PORTS))
    env = {f"MLOPS_{port}_PORT": str(number) for port, number in zip(PORTS, numbers, strict=True)}
    env |= {
        "COMPOSE_PROJECT_NAME": name,
        "MLOPS_STACK_IMAGES": IMAGES,
    }
    return Project(folder, name, env)


def remove(project: Project) -> None:
    """All of a project, the models' containers and images included."""
    everything = project.with_env(COMPOSE_PROFILES="workers,cli")
    everything.compose("down", "-v", "--remove-orphans", "-t", "5", check=False)
    label = f"label=mlops.project={project.name}"
    until(lambda: not removed(label), 60, "no container is left")
    if ids := docker("images", "-q", "--filter", label).split():
        docker("rmi", "-f", *dict.fromkeys(ids), check=False)  # newest first: a base is the last
    everything.compose("down", "-v", "--remove-orphans", check=False)


def removed(label: str) -> list[str]:
    """Remove the containers with a label; returns those that there were."""
    ids = docker("ps", "-aq", "--filter", label).split()
    if ids:
        docker("rm", "-f", *ids, check=False)  # the engine may be at it: a killed build's
    return ids


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the stack's images built."""
    folder = copy_tree(tmp_path_factory.mktemp("clone"))
    new_project(folder).compose("build", timeout=1500)
    return folder


def sign_in(project: Project) -> httpx.Client:
    """Sign in with the login that the command line prints."""
    exports = project.exports()
    login = {
        "username": exports["MLOPS_AIRFLOW_USER"],
        "password": exports["MLOPS_AIRFLOW_PASSWORD"],
    }
    base = f"{project.url()}/airflow"
    answer = httpx.post(f"{base}/auth/token", json=login, timeout=30)
    answer.raise_for_status()
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    return httpx.Client(base_url=base, headers=headers, timeout=30)
