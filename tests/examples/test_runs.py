"""The notebook, executed against real servers."""

from __future__ import annotations

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

from tasks.base.settings import REPOSITORY, Settings
from tasks.clients import tracking
from tasks.register import check
from tasks.stack.embedded import ports
from tasks.stack.embedded.home import Home
from tasks.stack.embedded.services import Stack

NOTEBOOK = REPOSITORY / "examples" / "runs.ipynb"


def test_its_outputs_are_stripped() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.fixture
def connected(servers: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a shell after `eval "$(./mlops env)"`."""
    home = Home(servers.home)
    for name, value in Stack(home, ports.load(home)).variables().items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("connected")
def test_every_cell_runs_and_its_best_run_may_be_registered(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": NOTEBOOK.parent}},
    ).execute()

    cells = {cell["id"]: cell for cell in notebook["cells"] if cell["cell_type"] == "code"}
    assert any("image/png" in output.get("data", {}) for output in cells["plot"]["outputs"])
    command = cells["serve"]["outputs"][0]["text"].split()
    assert command[:2] == ["./mlops", "register"]
    assert command[-1] == "--wait"
    candidate = check(command[2], command[3])
    assert candidate.trained_on == "the run's dataset inputs"
    versions = tracking.client().search_model_versions("name = 'diabetes_by_hand'")
    assert [version.run_id for version in versions] == [command[2]]
