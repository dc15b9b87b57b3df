"""Deployments behind a real gateway, while clients call, and after a kill at every step."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from tasks import deploy
from tasks.base.errors import RunFailedError, UnavailableError
from tasks.base.process import state
from tasks.base.settings import Settings, settings
from tasks.clients import tracking
from tasks.deploy import act, decide, observe
from tasks.deploy.decide import Action, Observed
from tasks.pipeline.schema import Serving
from tasks.records import ledger, registry
from tasks.records.ledger import Entry
from tasks.serving import endpoints
from tasks.serving.targets.process import ProcessTarget
from tasks.stack.embedded import lifecycle, supervisor
from tasks.stack.embedded.home import Home
from tests import deaths
from tests.deaths import DIED, Death
from tests.tasks.serving import examples
from tests.tasks.serving.clients import Clients
from tests.waiting import until

NAME = "deploy_test"
BODY = {"dataframe_records": [examples.ROW]}
PREDICTIONS = {
    1: float(examples.fitted(Ridge()).predict(examples.ROWS.head(1))[0]),
    2: float(examples.fitted(LinearRegression()).predict(examples.ROWS.head(1))[0]),
}


@pytest.fixture(scope="module")
def gateway(servers: Settings) -> Iterator[Settings]:
    """The servers, the gateway, and two versions of a model: 1 and 2."""
    lifecycle.start(only=("postgres", "store", "mlflow", "gateway"))
    for estimator in (Ridge(), LinearRegression()):
        examples.register(NAME, estimator)
    yield servers
    target = ProcessTarget()
    for deployment in target.list():
        target.stop(deployment, 0)


def champion(version: int) -> None:
    tracking.client().set_registered_model_alias(NAME, tracking.CHAMPION, str(version))


def deployed() -> list[Entry]:
    """The deployments on record, oldest first."""
    return [entry for entry in reversed(ledger.history(NAME)) if entry.kind == "deployed"]


def url(path: str = "invocations") -> str:
    return f"{endpoints.url(NAME)}/{path}"


def serving() -> tuple[int, float]:
    """Version and prediction behind the gateway."""
    answer = httpx.post(url(), json=BODY, timeout=30)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["x-model-version"]), answer.json()["predictions"][0]


def running() -> list[int]:
    return [server.version for server in ProcessTarget().list(NAME)]


@pytest.fixture
def first(gateway: Settings) -> None:
    """Version 1 serves."""
    champion(1)
    deploy.reconcile(NAME, "fixture")


def test_first_deployment_and_none_when_nothing_changed(gateway: Settings) -> None:
    assert httpx.post(url(), json=BODY, timeout=30).status_code in (404, 503)
    champion(1)
    done = deploy.reconcile(NAME, "somebody")
    assert (done["version"], done["switched"], done["stopped"]) == (1, True, [])
    assert serving() == (1, pytest.approx(PREDICTIONS[1], rel=1e-9))
    assert decide.actions(observe.read(NAME)) == []
    again = deploy.reconcile(NAME, "somebody")
    assert again == {**done, "switched": False}
    assert [(entry.from_version, entry.to_version, entry.actor) for entry in deployed()] == [
        (None, 1, "somebody")
    ]
    assert endpoints.endpoints()[NAME] == endpoints.Endpoint(endpoints.url(NAME), 1, "running")


@pytest.mark.usefixtures("first")
def test_no_request_is_lost_in_a_swap() -> None:
    before = len(deployed())
    with Clients(url(), BODY) as clients:
        champion(2)
        done = deploy.reconcile(NAME, "somebody")
        serving()
    assert (done["version"], done["switched"], done["stopped"]) == (2, True, [1])
    assert set(clients.got) == {(200, "1"), (200, "2")}, clients.got
    assert serving() == (2, pytest.approx(PREDICTIONS[2], rel=1e-9))
    assert running() == [2]
    assert [(entry.from_version, entry.to_version) for entry in deployed()[before:]] == [(1, 2)]


def test_the_old_server_finishes_what_it_began(gateway: Settings, tmp_path: Path) -> None:
    name, client = "slow_requests", tracking.client()
    versions = [examples.register_gate(name, tmp_path) for _ in range(2)]
    client.set_registered_model_alias(name, tracking.CHAMPION, str(versions[0]))
    deploy.reconcile(name, "somebody")
    waiting = examples.Waiting(f"{endpoints.url(name)}/invocations", tmp_path)
    client.set_registered_model_alias(name, tracking.CHAMPION, str(versions[1]))
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(deploy.reconcile, name, "somebody")
        until(
            lambda: httpx.get(f"{endpoints.url(name)}/version").json()["version"] == versions[1],
            *(60, "the new version serves"),
        )
        assert not deploying.done()
        answer = waiting.end()
        assert answer.headers["x-model-version"] == str(versions[0])
        assert answer.json() == {"predictions": [7.5]}
        assert deploying.result(60)["stopped"] == [versions[0]]


@pytest.mark.usefixtures("first")
def test_a_champion_that_fails_does_not_take_over() -> None:
    before = len(deployed())
    version, _ = examples.register(NAME, Ridge(), predictions=[1.0, 2.0, 3.0])
    champion(version)
    with pytest.raises(RunFailedError, match="smoke test"):
        deploy.reconcile(NAME, "somebody")
    assert serving()[0] == 1
    assert running() == [1]
    assert len(deployed()) == before


@pytest.mark.usefixtures("first")
def test_a_stuck_champion_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.serving.targets.deployment.YOUNG_S", 0)
    monkeypatch.setattr("tasks.serving.targets.deployment.PATIENCE", 1)
    stuck = supervisor.programs()[f"model-{NAME}-v1"].pid
    assert stuck is not None
    os.kill(stuck, signal.SIGSTOP)
    until(lambda: state(stuck) == "T", 5, "it is stopped")
    assert deploy.reconcile(NAME, "somebody")["stopped"] == []
    assert serving()[0] == 1
    assert supervisor.programs()[f"model-{NAME}-v1"].pid != stuck


@pytest.mark.usefixtures("first")
def test_only_a_challenger_that_passed_keeps_its_server() -> None:
    version, _ = examples.register(NAME, Ridge())
    ProcessTarget().start(NAME, version, Serving())
    tracking.client().set_registered_model_alias(NAME, tracking.CHALLENGER, str(version))
    registry.judge(NAME, version, "promote", may_promote=True)
    assert deploy.reconcile(NAME, "somebody")["stopped"] == []
    registry.judge(NAME, version, "reject", may_promote=False)
    assert deploy.reconcile(NAME, "somebody")["stopped"] == [version]
    assert running() == [1]


@pytest.mark.usefixtures("first")
def test_a_version_promoted_meanwhile_keeps_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    ProcessTarget().start(NAME, 2, Serving())
    actions = decide.actions

    def promoted_meanwhile(observed: Observed) -> list[Action]:
        champion(2)
        return actions(observed)

    monkeypatch.setattr(decide, "actions", promoted_meanwhile)
    done = deploy.reconcile(NAME, "somebody")
    assert (done["version"], done["stopped"]) == (1, [])
    assert running() == [1, 2]


@pytest.mark.usefixtures("first")
def test_without_a_champion_there_is_no_endpoint() -> None:
    tracking.client().delete_registered_model_alias(NAME, tracking.CHAMPION)
    done = deploy.reconcile(NAME, "somebody")
    assert done == {
        "name": NAME,
        "version": None,
        "addresses": [],
        "switched": True,
        "stopped": [1],
    }
    assert httpx.post(url(), json=BODY, timeout=30).status_code == 503
    assert NAME not in endpoints.endpoints()
    assert deployed()[-1].to_version is None
    assert deploy.reconcile(NAME, "somebody")["switched"] is False


def test_a_model_that_was_never_registered(gateway: Settings) -> None:
    done = deploy.reconcile("nobody", "somebody")
    assert done == {
        "name": "nobody",
        "version": None,
        "addresses": [],
        "switched": False,
        "stopped": [],
    }
    assert ledger.history("nobody") == []


@pytest.mark.usefixtures("first")
def test_while_the_gateway_is_away_the_old_server_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(act, "GATEWAY_S", 0.5)
    before = len(deployed())
    programs = supervisor.Supervisor(Home.of_settings())
    programs.stop(["gateway"])
    champion(2)
    with pytest.raises(UnavailableError, match="gateway does not show"):
        deploy.reconcile(NAME, "somebody")
    assert running() == [1, 2]
    programs.start_program("gateway")
    monkeypatch.setattr(act, "GATEWAY_S", 30)
    assert deploy.reconcile(NAME, "somebody")["stopped"] == [1]
    assert [entry.to_version for entry in deployed()[before:]] == [2]


@pytest.mark.usefixtures("first")
def test_two_at_once_deploy_once() -> None:
    champion(2)
    before = len(deployed())
    done: list[dict[str, Any]] = []
    calls = [
        threading.Thread(target=lambda: done.append(deploy.reconcile(NAME, "somebody")))
        for _ in range(2)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert sorted(result["switched"] for result in done) == [False, True]
    assert [entry.to_version for entry in deployed()[before:]] == [2]


STEPS = (
    "tasks.deploy:champion.settle",
    "tasks.serving.targets.process:ProcessTarget.start",
    "tasks.serving.targets.process:ProcessTarget.wait_ready",
    "tasks.deploy.act:smoke.check",
    "tasks.deploy.act:upstreams.switch",
    "tasks.deploy.act:site.write_routes",
    "tasks.deploy.act:_wait_for_gateway",
    "tasks.deploy.act:_record",
    "tasks.serving.model_files:forget",
    "tasks.serving.targets.process:ProcessTarget.stop",
)


@pytest.mark.faults
@pytest.mark.usefixtures("first")
def test_a_kill_after_any_step_is_repaired() -> None:
    for number, step in enumerate(STEPS):
        before, version = len(deployed()), 2 - number % 2
        champion(version)
        process = deaths.start(deploy.reconcile, NAME, "killed", death=Death((step,)))
        assert deaths.code(process, 120) == DIED, step
        assert serving()[0] in (1, 2), step  # the endpoint is never without a server
        deploy.reconcile(NAME, "repair")
        assert serving() == (version, pytest.approx(PREDICTIONS[version], rel=1e-9)), step
        assert running() == [version], step
        moves = [(entry.from_version, entry.to_version) for entry in deployed()[before:]]
        assert moves == [(3 - version, version)], step
        files = (settings().home / "models" / NAME).iterdir()
        assert [path.name.partition("-")[0] for path in files] == [str(version)], step
