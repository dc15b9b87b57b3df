"""A small valid pipeline file, and a folder of such files that the settings point at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.base.errors import UserError
from tasks.base.problems import Problem, ProblemsError
from tasks.base.settings import settings
from tasks.pipeline.load import parse_file

VALID = """\
description: A small file.
owner: someone
data:
  sources:
    - uri: file://rows.csv
  target: y
  task: regression
  columns:
    x: {}
    patient: {type: string}
    day: {type: datetime}
    y: {min: 0, max: 10}
split:
  groups: [patient]
  method: time
  column: day
search:
  space:
    choice:
      - estimator: linear
      - estimator: ridge
        alpha: {loguniform: [log(1e-3), log(100)]}
metric: rmse
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that `names` and `load` look in."""
    monkeypatch.setenv("MLOPS_PIPELINES", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., tuple[Problem, ...]]:
    """Problems of the small file after replacements."""

    def check(*changes: tuple[str, str], text: str = VALID) -> tuple[Problem, ...]:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "small.yaml"
        file.write_text(text)
        with pytest.raises(UserError) as caught:
            parse_file(file)
        assert isinstance(caught.value, ProblemsError)
        problems = caught.value.problems
        lines = [f"{file}:{problem.line}: {problem}" for problem in problems]
        assert caught.value.lines() == lines
        return problems

    return check
