"""Faults of the compose stack during a run: it ends right, by itself, nothing is lost or doubled.

Needs root on the engine's machine. A service is struck as a crash or the kernel's memory killer
strikes it, from outside: what `docker kill` ends counts as stopped by its operator, and the engine
starts that again with the next `docker compose up` only. That is tried too, with all at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.clients import tracking
from tasks.pipeline.schema import Serving
from tests.chain.conftest import Chain
from tests.chain.searches import assert_published_once, rows
from tests.compose.conftest import Project, docker
from tests.compose.shared.serving import models, served
from tests.compose.steady import FILE, NAME, reached, write
from tests.waiting import pid_once, until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2400)]

TRIALS = 90
"""Run by one slot: the faults strike services, and a second slot would double the CPU time."""
SERVICES = (
    "docker-filter", "gateway", "minio", "mlflow", "postgres", "airflow-api-server",
    "airflow-dag-processor", "airflow-triggerer", "airflow-scheduler",
)  # fmt: skip
AWAY_S = 60
KEPT = Serving().keep


@pytest.fixture(scope="module")
def chain(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The compose stack, reached from this process as `env` says, with one pipeline more."""
    with reached(project, tmp_path_factory.mktemp("home")) as chain:
        yield chain


@pytest.fixture(scope="module")
def champion(project: Project, chain: Chain) -> int:
    """Version 1, served."""
    run = chain.train(NAME, trials=2, force=True)
    assert chain.finish(NAME, run) == "success"
    until(lambda: served(project, NAME) == 1, 120, "version 1 is served")
    return 1


def strike(project: Project, service: str) -> None:
    """kill -9 of the container's first process, and with it of all in it; wait until it is back."""
    pid = pid_once(lambda: project.service(service)["State"]["Pid"], service)
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        state = project.service(service)["State"]
        return state["Pid"] not in (0, pid) and state["Health"]["Status"] == "healthy"

    until(back, 120, f"{service} is healthy again")


def restart_engine() -> None:
    """Stop the engine and start it again; where no service manager does that, this does.

    Not by kill -9: after that, engine 20.10 takes its containers for stopped by their operator.
    """
    if Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "restart", "docker"], check=True)
    else:
        processes = psutil.process_iter(["name"])
        (engine,) = [process for process in processes if process.info["name"] == "dockerd"]
        command = engine.cmdline()
        engine.terminate()
        engine.wait(120)
        with Path("/var/log/dockerd.log").open("ab") as log:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    version = ("version", "--format", "{{.Server.Version}}")  # `info` tells of the client, too
    until(lambda: docker(*version, check=False).strip(), 120, "the engine answers")


def deployed(chain: Chain) -> str:
    """Run the next reconciliation; returns how it ended."""
    dag = f"deploy__{NAME}"
    until(lambda: chain.airflow.active_run(dag) is None, 300, f"{dag} is idle")
    run = chain.airflow.trigger(dag)
    ended = ("success", "failed")
    until(lambda: chain.airflow.run_state(dag, run) in ended, 300, f"{dag} ends")
    return chain.airflow.run_state(dag, run)


def assert_no_orphans(project: Project, chain: Chain, version: int) -> None:
    """After the next reconciliation: one container, of the champion, and no image of nobody's."""
    assert deployed(chain) == "success"
    assert served(project, NAME) == version
    assert models(project, NAME) == [f"{project.name}-model-{NAME}-v{version}-1"]
    label, columns = f"label=mlops.project={project.name}", "{{.Repository}}:{{.Tag}}"
    built = docker("images", "--filter", label, "--format", columns).split()
    assert not [image for image in built if "<none>" in image]
    versions = sorted(int(tag.split(":")[1]) for tag in built if f"/{NAME}:" in tag)
    assert versions == [number for number in range(1, version + 1) if number >= version - KEPT]


def strike_all_in_turn(project: Project, search: str) -> None:
    """Kill each service and wait until the search continues; then kill all services at once."""
    for service in SERVICES:
        until(lambda: rows(search), 120, "trials are recorded")
        before = rows(search)
        assert len(before) < TRIALS, f"the search ended before {service} was killed"
        strike(project, service)
        until(lambda: len(rows(search)) > len(before), 180, f"the search goes on after {service}")  # noqa: B023
        after = rows(search)
        assert {tid: after[tid] for tid in before} == before, "a recorded trial ran again"
    assert len(rows(search)) < TRIALS, "the search ended before all services were killed"
    docker("kill", *(project.service(service)["Id"] for service in SERVICES))
    project.up()


def test_a_run_survives_its_services_its_store_and_its_engine(
    project: Project, chain: Chain, champion: int
) -> None:
    run = chain.train(NAME, trials=TRIALS, slots=1, force=True)
    search = chain.parent(NAME, run)
    strike_all_in_turn(project, search)
    assert chain.state(NAME, run) == "running"

    until(lambda: len(rows(search)) == TRIALS, 600, "all trials are recorded")
    recorded = rows(search)
    project.compose("stop", "minio")  # the next steps need it
    time.sleep(AWAY_S)  # the length of the outage, not a wait for a condition
    project.compose("start", "minio")

    until(lambda: chain.tasks(NAME, run).get("build") == "running", 400, "the build begins")
    restart_engine()

    assert chain.finish(NAME, run, 900) == "success"
    assert rows(search) == recorded, "a recorded trial ran again"
    assert sorted(recorded) == list(range(TRIALS))
    assert_published_once(NAME, search, TRIALS)
    until(lambda: served(project, NAME) == champion + 1, 180, "the new version is served")
    assert_no_orphans(project, chain, champion + 1)


def test_a_server_that_fills_its_memory_is_started_again(
    project: Project, chain: Chain, champion: int
) -> None:
    version = served(project, NAME)
    assert version
    (name,) = models(project, NAME)

    def state() -> Any:
        return project.containers()[name]

    first = psutil.Process(state()["State"]["Pid"])
    for process in (first, *first.children(recursive=True)):
        # So that the kernel takes the server, not the program that fills what it has left.
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    docker("exec", name, "python3", "-c", "b'x' * (4 << 30)", check=False)
    until(lambda: not first.is_running(), 30, "the server is killed")
    until(lambda: served(project, NAME) == version, 60, "it answers again")
    assert state()["RestartCount"] == 1
    assert_no_orphans(project, chain, version)


def test_a_broken_image_never_becomes_champion(
    project: Project, chain: Chain, champion: int
) -> None:
    before = served(project, NAME)
    assert before
    write(project, FILE + "serving: {environment: {PYTHONHOME: /nowhere}}\n")
    try:
        run = chain.train(NAME, trials=2, seed=7, force=True)
        assert chain.finish(NAME, run, 600) == "failed"
        assert chain.tasks(NAME, run)["build"] == "failed"
        entry = tracking.client().get_model_version_by_alias(NAME, tracking.CHAMPION)
        assert int(entry.version) == before
        # The file is as wrong for the champion's own containers.
        assert deployed(chain) == "failed"
        assert served(project, NAME) == before
    finally:
        write(project)
    assert_no_orphans(project, chain, before)
