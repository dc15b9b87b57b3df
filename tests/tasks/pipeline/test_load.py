from __future__ import annotations

import copy
import functools
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.base.errors import UserError
from tasks.base.problems import Problem
from tasks.base.settings import REPOSITORY
from tasks.pipeline import document
from tasks.pipeline.checks import check
from tasks.pipeline.load import load, names, parse_file
from tasks.pipeline.schema import Pipeline
from tests.tasks.pipeline.conftest import VALID

Problems = Callable[..., tuple[Problem, ...]]
REFERENCE = REPOSITORY / "pipelines" / "diabetes_progression.yaml"


def test_a_file_becomes_a_pipeline(folder: Path) -> None:
    (folder / "small.yaml").write_text(VALID)

    pipeline = load("small")

    assert pipeline.name == "small"
    assert pipeline.metric.name == "rmse"
    assert pipeline.metric.direction == "minimize"
    assert pipeline.feature_names == ("x",)
    assert pipeline.search.trials == 40
    assert Pipeline.model_validate_json(pipeline.model_dump_json()) == pipeline


def test_names_are_the_files_sorted(folder: Path) -> None:
    for name in ("b", "a"):
        (folder / f"{name}.yaml").write_text(VALID)
    (folder / "schema.json").write_text("{}")
    assert names() == ["a", "b"]


def test_an_unknown_name_is_answered_with_the_nearest(folder: Path) -> None:
    (folder / "wine_quality.yaml").write_text(VALID)
    with pytest.raises(UserError, match="Did you mean 'wine_quality'"):
        load("wine_qualty")


def test_a_yml_file_is_to_be_renamed(folder: Path) -> None:
    (folder / "wine.yml").write_text(VALID)
    with pytest.raises(UserError, match=r"Rename wine\.yml to wine\.yaml"):
        load("wine")


def test_a_path_is_no_name(folder: Path) -> None:
    (folder / "in").mkdir()
    (folder / "small.yaml").write_text(VALID)
    with pytest.raises(UserError, match="There is no pipeline"):
        load("in/../small")


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-03"])
def test_numbers_as_people_write_them(folder: Path, text: str) -> None:
    body = VALID.replace("{loguniform: [log(1e-3), log(100)]}", f"{{uniform: [{text}, 1]}}")
    (folder / "small.yaml").write_text(f"{body}gate:\n  min_improvement: {text}\n")
    pipeline = load("small")
    assert pipeline.gate.min_improvement == 0.001
    assert pipeline.search.space["choice"][1]["alpha"] == {"uniform": [0.001, 1]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "1: The file must be a mapping of keys"),
        (b"- 1", "1: The file must be a mapping of keys"),
        (b"a: [", "2: The file must be valid YAML"),
        (b"a: 1\n---\nb: 2", "2: The file must be valid YAML"),
        (b"a: 1\n\tb: 2", "2: The file must be valid YAML"),
        (b"a: !!python/object:os.system x", "1: The file must be valid YAML"),
        (b"a: &b {x: *b}", "1: The 'a.x' field must not contain itself."),
        (b"a: \xff", "1: The file must be UTF-8 text, but byte 3 is not."),
    ],
)
def test_invalid_yaml(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        parse_file(file)
    assert f"{file}:{line}" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        parse_file(tmp_path / "none.yaml")


def test_the_name_of_a_file_must_be_a_name(tmp_path: Path) -> None:
    file = tmp_path / "My Model.yaml"
    file.write_text(VALID)
    with pytest.raises(UserError, match=r"The 'name' field must .* Got 'My Model' instead"):
        parse_file(file)


def test_merge_keys_share_what_is_equal(folder: Path) -> None:
    text = VALID.replace("x: {}", "x: &number {min: 0, max: 1}\n    z: {<<: *number, max: 2}")
    (folder / "small.yaml").write_text(text)
    columns = load("small").data.columns
    assert (columns["z"].min, columns["z"].max) == (0, 2)


def test_reading_files_imports_no_ml_library(tmp_path: Path) -> None:
    """How long it takes is measured by benchmarks/parse.py."""
    for i in range(50):
        text = REFERENCE.read_text().replace("schedule: null", f'schedule: "{i} 1 * * *"')
        (tmp_path / f"copy_{i}.yaml").write_text(text)
    program = """
import sys
from tasks.pipeline.load import load, names
loaded = [load(name) for name in names()]
assert len(loaded) == 50
heavy = {"mlflow", "sklearn", "tensorflow", "keras", "hyperopt", "pandas", "boto3", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"MLOPS_PIPELINES": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**40, 10**400, 1e308, 1e-308, -0.0])
    | st.sampled_from(["", "a", "[", "https://[x/y", "s3://", "é", "true", "1e400", "log(0)"])
    | st.sampled_from([".", "@", "%", "{}", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "estimator", "uniform", "choice", "x"]), inner)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


@pytest.mark.parametrize("name", ["diabetes_progression", "diabetes_risk", "wine_quality"])
@given(data=st.data())
@hypothesis.settings(max_examples=200, deadline=None)
def test_no_value_anywhere_is_more_than_a_mistake(name: str, data: st.DataObject) -> None:
    file = REPOSITORY / "pipelines" / f"{name}.yaml"
    raw = copy.deepcopy(document.read(file).data)
    *path, last = data.draw(st.sampled_from(list(places(raw))[1:]))
    functools.reduce(operator.getitem, path, raw)[last] = data.draw(ODD)

    result = check({"name": name, **raw}, file.parent)

    assert isinstance(result, Pipeline) or all(map(str, result))
