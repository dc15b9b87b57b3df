from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.base.settings import settings
from tasks.pipeline.schema import Pipeline
from tests.tasks.publisher import Publisher, publishing


@pytest.fixture
def make_pipeline() -> Callable[..., Pipeline]:
    """A pipeline over columns a, b and y; `data`, `split` and `search` update those sections."""

    def make(
        data: dict[str, Any] | None = None,
        split: dict[str, Any] | None = None,
        search: dict[str, Any] | None = None,
        **top: Any,
    ) -> Pipeline:
        body = {
            "name": "small",
            "description": "a test",
            "owner": "tests",
            "data": {
                "sources": [{"uri": "file://x.csv"}],
                "target": "y",
                "task": "regression",
                "columns": {"a": {}, "b": {"type": "category"}, "y": {}},
                **(data or {}),
            },
            "split": split or {},
            "search": {"space": {"estimator": "linear"}, "trials": 4, "slots": 2, **(search or {})},
            "metric": {"name": "rmse", "direction": "minimize"},
            **top,
        }
        return Pipeline.model_validate(body)

    return make


@pytest.fixture
def pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of pipeline files, to which the settings point."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    monkeypatch.setenv("MLOPS_PIPELINES", str(folder))
    settings.cache_clear()
    yield folder
    settings.cache_clear()


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """An HTTP server; downloads from it are attempted three times without pauses."""
    monkeypatch.setattr("tasks.data.download.PAUSES", (0.0, 0.0))
    with publishing() as server:
        yield server
