"""What people look at, in a real browser, through the gateway.

`MLOPS_PICTURES=docs/images` also saves the README's pictures to that folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tasks.base.settings import REPOSITORY
from tests.compose import conftest
from tests.compose.conftest import Project
from tests.compose.shared.serving import served

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

NAME = "diabetes_progression"
STEPS = ("prepare", "search", "select", "evaluate", "gate", "build", "promote", "finish")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium, or the one that Playwright has installed."""
    expect.set_options(timeout=90_000)
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=list(QUIET))


@pytest.fixture
def page(browser: Browser, project: Project) -> Iterator[Page]:
    context = browser.new_context(base_url=project.url(), device_scale_factor=1.5)
    context.set_default_timeout(30_000)
    page = context.new_page()
    yield page
    context.close()


def sign_in(page: Page, exports: Mapping[str, str]) -> None:
    page.goto("/airflow/")
    page.fill("input[name=username]", exports["MLOPS_AIRFLOW_USER"])
    page.fill("input[name=password]", exports["MLOPS_AIRFLOW_PASSWORD"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Dags").first).to_be_visible()


def picture(page: Page, name: str, *, height: int, left: int = 0) -> None:
    """Save the upper part of the window, if pictures are asked for."""
    folder, window = os.environ.get("MLOPS_PICTURES"), page.viewport_size
    if folder and window:
        page.mouse.move(0, 0)  # no tooltip
        area = {"x": left, "y": 0, "width": window["width"] - left, "height": height}
        page.screenshot(path=REPOSITORY / folder / f"{name}.png", clip=area)


def show_start_page(page: Page) -> None:
    """Open it and wait for its states."""
    page.set_viewport_size({"width": 1000, "height": 640})
    page.goto("/")
    for part in ("airflow", "mlflow"):
        expect(page.locator(f"#{part} .state")).to_have_text("running")
    expect(page.locator("#models .state").first).to_be_visible()
    expect(page.locator(".state[data-state=asking]")).to_have_count(0)


def show_graph(page: Page, path: str) -> None:
    """Open the graph of a DAG or of a DAG run, without the panel beside it."""
    page.set_viewport_size({"width": 1280, "height": 350})
    page.goto(f"/airflow/dags/{path}")
    page.get_by_role("button", name="Show Graph").click()
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.get_by_role("button", name="Fit View").click()
    page.add_style_tag(content=".react-flow__panel {display: none}")  # a map covers a step


def test_the_start_page_shows_states_and_leads_on(page: Page, project: Project) -> None:
    broken: list[str] = []
    page.on(
        "console", lambda message: broken.append(message.text) if "Policy" in message.text else None
    )
    page.on("pageerror", lambda error: broken.append(str(error)))
    show_start_page(page)
    model = page.locator(f"#model-{NAME}")
    expect(model).to_contain_text(f"/models/{NAME}/invocations")
    version = served(project, NAME)
    state = "running" if version else "not served"
    expect(model.locator(".state")).to_have_text(state)
    expect(model).to_contain_text(str(version or ""))
    picture(page, "start-page", height=575)
    page.click("#mlflow")
    expect(page).to_have_url("/mlflow/")
    assert broken == []


def test_a_stopped_service_shows_as_such(page: Page, project: Project) -> None:
    project.compose("stop", "mlflow")
    try:
        page.goto("/")
        expect(page.locator("#mlflow .state")).to_have_text("failed")
        expect(page.locator("#airflow .state")).to_have_text("running")
        assert httpx.get(f"{project.url()}/mlflow/", timeout=30).status_code == 503
        stopped = project.cli("status", check=False)
        assert stopped.returncode == 3
        assert "stopped" in stopped.stdout
    finally:
        project.up()


def test_sign_in_and_the_form_in_airflow(page: Page, project: Project) -> None:
    sign_in(page, project.exports())
    assert page.url.startswith(f"{project.url()}/airflow/")
    page.goto(f"/airflow/dags/train__{NAME}")
    page.get_by_role("button", name="Trigger").first.click()
    expect(
        page.get_by_label("trials").or_(page.locator("[name=element_trials]")).first
    ).to_be_visible()


def test_the_graph_of_the_chain_in_airflow(page: Page, project: Project) -> None:
    newest = {"state": "success", "order_by": "-run_after", "limit": 1}
    with conftest.sign_in(project) as api:
        runs = api.get(f"/api/v2/dags/train__{NAME}/dagRuns", params=newest).json()["dag_runs"]
    sign_in(page, project.exports())
    show_graph(page, "/runs/".join([f"train__{NAME}", *(run["dag_run_id"] for run in runs)]))
    for step in STEPS:
        expect(page.get_by_test_id(f"rf__node-{step}")).to_contain_text(step)
    if runs:
        expect(page.get_by_test_id("rf__node-finish")).to_contain_text("success")
    picture(page, "airflow-graph", height=280, left=64)


def test_an_experiment_and_a_tag_in_mlflow(page: Page, project: Project) -> None:
    page.goto("/mlflow/#/experiments")
    page.get_by_role("button", name="Create").first.click()
    page.get_by_label("Experiment Name").fill("made in a browser")
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    address = f"{project.url('MLFLOW')}/api/2.0/mlflow/experiments/get-by-name"
    expect(page.get_by_text("made in a browser").first).to_be_visible()
    answer = httpx.get(address, params={"experiment_name": "made in a browser"})
    assert answer.json()["experiment"]["lifecycle_stage"] == "active"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nonesuch", 404),
        ("/models/nonesuch/ping", 404),
        ("/upstreams/x", 404),
        ("/caddy.json", 404),
    ],
)
def test_nothing_else_is_served(project: Project, path: str, status: int) -> None:
    answer = httpx.get(project.url() + path, timeout=30)
    assert answer.status_code == status
    assert answer.json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"
