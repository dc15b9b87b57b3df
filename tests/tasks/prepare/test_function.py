from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from tasks.base.errors import UserError
from tasks.prepare import function

TABLES = [pd.DataFrame({"id": [1, 2], "a": [3, 4]}), pd.DataFrame({"id": [2, 1], "y": [5, 6]})]


def test_the_file_beside_the_pipeline_is_found_and_nothing_else_becomes_importable(
    pipelines: Path,
) -> None:
    (pipelines / "json.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Kept:\n    field: int\n"
        "def join(tables):\n    left, right = tables\n    return left.merge(right, on='id')\n"
    )
    path = list(sys.path)
    joined = function.apply("json:join", TABLES)
    assert joined.to_dict("list") == {"id": [1, 2], "a": [3, 4], "y": [6, 5]}
    assert sys.path == path
    assert sys.modules["json"].__name__ == "json"  # not shadowed


def test_a_changed_file_is_used_at_once_and_has_another_digest(pipelines: Path) -> None:
    file = pipelines / "own.py"
    file.write_text("def f(tables):\n    return tables[0]\n")
    first = function.digest("own:f")
    assert function.apply("own:f", TABLES) is TABLES[0]
    file.write_text("def f(tables):\n    return tables[1]\n")
    assert function.apply("own:f", TABLES) is TABLES[1]
    assert function.digest("own:f") != first


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        (None, "cannot be read", "No such file"),
        ("def f(:", "cannot be imported", "SyntaxError"),
        ("import nowhere_to_be_found", "cannot be imported", "ModuleNotFoundError"),
        ("g = 1", "has no function 'f'", ""),
        ("def f(tables):\n    return tables", "must return one pandas DataFrame. Got list", ""),
        ("def f(tables):\n    return tables[0]['b']", "failed", "KeyError: 'b'"),
    ],
)
def test_a_broken_function_is_the_users_error(
    pipelines: Path, text: str | None, what: str, why: str
) -> None:
    if text is not None:
        (pipelines / "own.py").write_text(text)
    with pytest.raises(UserError) as err:
        function.apply("own:f", TABLES)
    assert what in err.value.what
    assert why in err.value.why


def test_temporary_errors_are_passed_on(pipelines: Path) -> None:
    (pipelines / "own.py").write_text("def f(tables):\n    raise TimeoutError('slow')\n")
    with pytest.raises(TimeoutError):
        function.apply("own:f", TABLES)
