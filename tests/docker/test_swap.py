"""Versions in containers, swapped behind a real gateway while clients call, and after kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from tasks import build, deploy
from tasks.base.errors import RunFailedError
from tasks.base.settings import Settings
from tasks.clients import tracking
from tasks.pipeline.schema import Serving
from tasks.records import ledger, registry
from tasks.serving import endpoints
from tasks.serving.targets import engine, image, replica
from tasks.serving.targets.container import ContainerTarget
from tasks.serving.targets.deployment import ask
from tasks.serving.targets.process import ProcessTarget
from tasks.stack.embedded import lifecycle
from tests import deaths
from tests.deaths import DIED, Death
from tests.tasks.building import assert_rejected, decision
from tests.tasks.serving import examples
from tests.tasks.serving.clients import Clients

pytestmark = pytest.mark.docker
NAME = "swap_test"
BODY = {"dataframe_records": [examples.ROW]}
MODELS = {1: Ridge(), 2: LinearRegression(), 3: Ridge(alpha=3.0), 4: Ridge(alpha=4.0)}
PREDICTIONS = {
    version: float(examples.fitted(model).predict(examples.ROWS.head(1))[0])
    for version, model in MODELS.items()
}


@pytest.fixture(scope="module")
def gateway(docker_target: Settings) -> Iterator[Settings]:
    """The gateway, and two versions of a model: 1 and 2."""
    lifecycle.start(only=("postgres", "store", "mlflow", "gateway"))
    for version in (1, 2):
        examples.register(NAME, MODELS[version])
    yield docker_target
    for deployment in ContainerTarget().list():
        ContainerTarget().stop(deployment, 0)


@pytest.fixture
def first(gateway: Settings, serve: Any) -> None:
    """Version 1 serves."""
    serve()
    champion(1)
    deploy.reconcile(NAME, "fixture")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says what the pipeline's file says of serving."""

    def said(**fields: Any) -> None:
        given = patient(**fields)
        monkeypatch.setattr(deploy.deployments, "serving_of", lambda *_: given)

    return said


def patient(**fields: Any) -> Serving:
    return Serving(**{"start_timeout": 180, **fields})  # others may use this machine too


def champion(version: int) -> None:
    tracking.client().set_registered_model_alias(NAME, tracking.CHAMPION, str(version))


def url(path: str = "invocations") -> str:
    return f"{endpoints.url(NAME)}/{path}"


def serving() -> tuple[int, float]:
    """Version and prediction behind the gateway."""
    answer = httpx.post(url(), json=BODY, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["x-model-version"]), answer.json()["predictions"][0]


def running() -> list[int]:
    return [server.version for server in ContainerTarget().list(NAME)]


def moves() -> list[tuple[int | None, int | None]]:
    """The deployments on record, oldest first."""
    deployments = [entry for entry in reversed(ledger.history(NAME)) if entry.kind == "deployed"]
    return [(entry.from_version, entry.to_version) for entry in deployments]


def images() -> list[int]:
    client = engine.client()
    built = client.images.list(filters=engine.ours(model=NAME))
    return sorted(int(each.labels[engine.VERSION]) for each in built)


@pytest.mark.usefixtures("first")
def test_no_request_is_lost_in_a_swap() -> None:
    before = len(moves())
    with Clients(url(), BODY) as clients:
        champion(2)
        done = deploy.reconcile(NAME, "somebody")
        serving()
    assert (done["version"], done["switched"], done["stopped"]) == (2, True, [1])
    assert set(clients.got) == {(200, "1"), (200, "2")}, clients.got
    assert serving() == (2, pytest.approx(PREDICTIONS[2], rel=1e-9))
    assert running() == [2]
    assert moves()[before:] == [(1, 2)]
    again = deploy.reconcile(NAME, "somebody")
    assert (again["switched"], again["stopped"]) == (False, [])
    assert endpoints.endpoints()[NAME] == endpoints.Endpoint(endpoints.url(NAME), 2, "running")


@pytest.mark.usefixtures("first")
def test_new_limits_and_replicas_without_a_lost_request(serve: Any) -> None:
    (old,) = ContainerTarget().list(NAME)
    with Clients(url(), BODY) as clients:
        serve(replicas=3, memory="600m", drain_timeout=10)
        done = deploy.reconcile(NAME, "somebody")
        for _ in range(12):
            serving()
    assert set(clients.got) == {(200, "1")}, clients.got
    assert (len(done["addresses"]), done["stopped"]) == (3, [1])
    assert not set(done["addresses"]) & set(old.addresses)
    servers = ContainerTarget().list(NAME)
    assert [each.addresses for each in servers] == [(address,) for address in done["addresses"]]
    answered = [(ask(each.address, "/status") or {})["requests"] for each in servers]
    assert min(answered) > 3  # of the smoke test
    serve(replicas=1, memory="600m", drain_timeout=10)
    assert len(deploy.reconcile(NAME, "somebody")["addresses"]) == 1
    assert running() == [1]


@pytest.mark.usefixtures("first")
def test_a_champion_that_fails_does_not_take_over() -> None:
    before = len(moves())
    version, _ = examples.register(NAME, Ridge(), predictions=[1.0, 2.0, 3.0])
    champion(version)
    with pytest.raises(RunFailedError, match="smoke test"):
        deploy.reconcile(NAME, "somebody")
    assert (serving()[0], running(), len(moves())) == (1, [1], before)


@pytest.mark.usefixtures("first")
def test_limits_under_which_it_cannot_run_leave_the_old_server(serve: Any) -> None:
    serve(memory="64m")
    with pytest.raises(RunFailedError, match="ended before it answered"):
        deploy.reconcile(NAME, "somebody")
    assert (serving()[0], running()) == (1, [1])


@pytest.mark.usefixtures("first")
def test_a_good_version_is_built_and_tried_before_it_is_promoted() -> None:
    name = "swap_good"
    ref = decision(name, examples.register(name, Ridge()))
    built = build.build(ref)
    assert build.build(ref) == built
    run = tracking.client().get_run(ref.run_id).data
    stored = image.find(name, ref.version, "mlops")
    assert stored is not None
    assert run.tags["serving.image"] == stored.tag
    assert run.tags["serving.image_id"] == stored.id
    assert 20 < run.metrics["serving_memory_mb"] < 1000
    assert 0 < run.metrics["serving_start_s"] < 60
    (server,) = ContainerTarget().list(name)
    assert server.answers()
    # A challenger that may be promoted yet keeps its server and its image.
    deploy.reconcile(name, "somebody")
    assert ContainerTarget().list(name) == [server]
    tracking.client().set_registered_model_alias(name, tracking.CHAMPION, str(ref.version))
    assert deploy.reconcile(name, "somebody")["addresses"] == list(built.addresses)


@pytest.mark.usefixtures("first")
def test_a_version_whose_server_ends_is_rejected(tmp_path: Path) -> None:
    name = "swap_broken"
    ref = decision(name, examples.register_broken(name, tmp_path))
    with pytest.raises(RunFailedError, match="ended before it answered"):
        build.build(ref)
    assert_rejected(ref, "RuntimeError: the reason")
    assert ContainerTarget().list(name) == []
    deploy.reconcile(name, "somebody")
    assert image.find(name, ref.version, "mlops") is None


def test_old_images_are_kept_for_a_rollback_and_older_ones_are_not(
    gateway: Settings, serve: Any
) -> None:
    count = len(registry.versions(NAME))
    new = [examples.register(NAME, Ridge(alpha=alpha))[0] for alpha in (3.0, 4.0)]
    assert new[0] == count + 1
    serve(keep=1)
    for version in (1, 2, *new):
        champion(version)
        deploy.reconcile(NAME, "somebody")
    assert images() == new
    serve(keep=0)
    deploy.reconcile(NAME, "somebody")
    assert images() == new[1:]
    champion(1)  # its image is gone, so it is built again
    deploy.reconcile(NAME, "somebody")
    assert serving() == (1, pytest.approx(PREDICTIONS[1], rel=1e-9))


@pytest.mark.usefixtures("first")
def test_servers_whose_image_lost_its_name_serve_on() -> None:
    (server,) = ContainerTarget().list(NAME)
    engine.client().images.remove(image.tag(NAME, server.version), force=True)
    for _ in range(2):
        deploy.reconcile(NAME, "somebody")
        assert serving()[0] == server.version
        assert ContainerTarget().list(NAME) != []


@pytest.mark.usefixtures("first")
def test_without_a_champion_there_is_no_endpoint_and_no_container() -> None:
    tracking.client().delete_registered_model_alias(NAME, tracking.CHAMPION)
    assert deploy.reconcile(NAME, "somebody")["stopped"] == [1]
    assert httpx.post(url(), json=BODY, timeout=30, trust_env=False).status_code == 503
    assert running() == []


def test_a_model_moves_between_processes_and_containers(gateway: Settings, serve: Any) -> None:
    champion(1)
    for kind, target, gone in (
        ("process", ProcessTarget(), ContainerTarget()),
        ("docker", ContainerTarget(), ProcessTarget()),
    ):
        serve(target=kind)
        deploy.reconcile(NAME, "somebody")
        assert serving()[0] == 1
        assert len(target.list(NAME)) == 1
        assert gone.list(NAME) == []


@pytest.mark.usefixtures("first")
def test_mlflows_own_image(serve: Any) -> None:
    serve(builder="mlflow", drain_timeout=1)
    done = deploy.reconcile(NAME, "somebody")
    assert (done["switched"], running()) == (True, [1])
    answer = httpx.post(url(), json=BODY, timeout=30, trust_env=False)
    assert answer.json() == {"predictions": [pytest.approx(PREDICTIONS[1], rel=1e-9)]}
    assert endpoints.endpoints()[NAME] == endpoints.Endpoint(endpoints.url(NAME), 1, "running")
    assert deploy.reconcile(NAME, "somebody")["switched"] is False
    (container,) = engine.client().containers.list(filters=engine.ours(model=NAME))
    assert container.attrs["Config"]["User"] == replica.USER
    serve(builder="mlops", drain_timeout=1)
    assert deploy.reconcile(NAME, "somebody")["switched"] is True
    assert serving()[0] == 1


OWN_STEPS = (
    "tasks.serving.targets.image:build",
    "tasks.serving.targets.replica:Template.create",
    "tasks.serving.targets.container:ContainerTarget.start",
    "tasks.serving.targets.container:ContainerTarget.stop",
)
"""Steps specific to containers. tests/tasks/test_deploy.py kills after each of the others."""
OTHER_STEPS = (
    "tasks.serving.targets.container:ContainerTarget.wait_ready",
    "tasks.deploy.act:smoke.check",
    "tasks.deploy.act:upstreams.switch",
    "tasks.deploy.act:_wait_for_gateway",
    "tasks.deploy.act:_record",
    "tasks.serving.targets.container:ContainerTarget.clean",
)


def reconcile_patiently() -> None:
    deploy.deployments.serving_of = lambda *_: patient()
    deploy.reconcile(NAME, "killed")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "steps", [OWN_STEPS, pytest.param(OTHER_STEPS, marks=pytest.mark.full)], ids=["own", "other"]
)
@pytest.mark.usefixtures("first")
def test_a_kill_after_any_step_is_repaired(serve: Any, steps: tuple[str, ...]) -> None:
    serve(keep=0)  # so that each image is built again
    deploy.reconcile(NAME, "prepare")
    for number, step in enumerate(steps):
        before, version = len(moves()), 2 - number % 2
        champion(version)
        process = deaths.start(reconcile_patiently, death=Death((step,)))
        assert deaths.code(process, 300) == DIED, step
        assert serving()[0] in (1, 2), step  # the endpoint is never without a server
        deploy.reconcile(NAME, "repair")
        assert serving() == (version, pytest.approx(PREDICTIONS[version], rel=1e-9)), step
        assert (running(), images()) == ([version], [version]), step
        assert moves()[before:] == [(3 - version, version)], step
