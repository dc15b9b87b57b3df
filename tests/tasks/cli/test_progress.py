"""The progress line of a DAG run, from made-up answers of Airflow; tests/chain has real ones."""

from __future__ import annotations

import pytest

from tasks.cli.progress import Progress
from tasks.clients.orchestrator import Airflow, TaskState


def line(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, str | None], active: str = "run_2"
) -> str:
    tasks = [TaskState(task, -1, state, 1) for task, state in states.items()]
    monkeypatch.setattr(Airflow, "tasks", lambda *_: tasks)
    monkeypatch.setattr(Airflow, "active_run", lambda *_: active)
    queued = not any(states.values())
    monkeypatch.setattr(Airflow, "run_state", lambda *_: "queued" if queued else "running")
    progress = Progress("train__wine", "run_2")
    progress.update()
    return progress.line.plain


def test_the_line_names_the_run_that_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line(monkeypatch, {}, active="run_1").endswith("waits for run_1 to end")
    assert "waits" not in line(monkeypatch, {"prepare": None})
    assert "waits" not in line(monkeypatch, {"prepare": "running"}, active="run_1")


def test_the_line_names_a_stage_to_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = line(monkeypatch, {"prepare": "up_for_retry", "select": None})
    assert "▸ prepare" in shown
    assert shown.endswith("prepare failed and will be retried soon")


def test_only_what_failed_is_crossed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"prepare": "failed", "search": "upstream_failed", "finish": "success"}
    shown = line(monkeypatch, states)
    assert "✗ prepare" in shown
    assert "· search" in shown
    assert "✓ finish" in shown
