"""The links of a task's page; that Airflow shows them is tested in tests/chain."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from tasks.base.settings import REPOSITORY, settings

# By its path: with plugins/ on sys.path, Airflow would load its local settings into this process.
_SPEC = importlib.util.spec_from_file_location("mlops_links", REPOSITORY / "plugins/mlops_links.py")
plugin = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plugin)

VERSION = {"name": "wine", "run_id": "4f1a", "version": 7}


def links(reference: object) -> dict[str, str]:
    operator = SimpleNamespace(reference=reference)
    return {
        link.name: link.get_link(operator, ti_key=None)
        for link in plugin.MlopsPlugin.operator_extra_links
    }


def test_a_version_has_a_run_a_page_and_an_endpoint() -> None:
    config = settings()
    assert links(VERSION) == {
        "MLflow run": f"{config.tracking_page}/#/runs/4f1a",
        "Model version": f"{config.tracking_page}/#/models/wine/versions/7",
        "Endpoint": f"{config.gateway_url}/models/wine/version",
    }


def test_prepare_returns_slots_and_links_to_their_run() -> None:
    slot_links = links([{"slot": {"name": "wine", "run_id": "4f1a", "slot": 0}}])
    assert slot_links["MLflow run"].endswith("/#/runs/4f1a")
    assert slot_links["Model version"] == ""


def test_a_version_without_a_name_has_no_page() -> None:
    assert set(links({"version": 7}).values()) == {""}


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_a_task_that_made_nothing_has_no_links(nothing: object) -> None:
    assert set(links(nothing).values()) == {""}
