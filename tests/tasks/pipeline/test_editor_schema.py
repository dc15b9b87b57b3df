"""The schema, the commented file and the reference say the same as the code."""

from __future__ import annotations

import copy
import json
import re
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from tasks.base.settings import REPOSITORY
from tasks.pipeline import document, editor_schema, reference
from tasks.pipeline.distributions import FUNCTIONS
from tasks.pipeline.metrics import CALIBRATION, DIRECTIONS, MetricName
from tasks.pipeline.overrides import Overrides
from tasks.pipeline.schema import (
    PATTERNS,
    Column,
    Data,
    Drift,
    Features,
    Gate,
    Impute,
    Metric,
    Pipeline,
    Search,
    Serving,
    Slices,
    Source,
    Split,
)

FOLDER = REPOSITORY / "pipelines"
MANUAL = reference.FILE.read_text()


@pytest.fixture
def example() -> dict[str, Any]:
    data = document.read(FOLDER / "diabetes_progression.yaml").data
    assert isinstance(data, dict)
    return copy.deepcopy(data)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = editor_schema.build()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_file_is_what_the_command_prints() -> None:
    assert editor_schema.FILE.read_text() == editor_schema.text()


def test_the_tables_of_the_reference_are_what_the_schema_says() -> None:
    assert reference.updated(MANUAL) == MANUAL
    changed = MANUAL.replace("The column to predict.", "The column.")
    assert changed != MANUAL == reference.updated(changed)


def test_every_pattern_has_its_words() -> None:
    schema = json.dumps(Pipeline.model_json_schema())
    patterns = re.findall(r'"pattern": ("[^ ]*")', schema)
    keys = re.findall(r'"patternProperties": \{("[^ ]*"):', schema)
    assert {json.loads(text) for text in (*patterns, *keys)} == set(PATTERNS)


def test_the_example_fits(validator: Any, example: dict[str, Any]) -> None:
    assert list(validator.iter_errors(example)) == []


@pytest.mark.parametrize(
    "expression",
    [
        1e-3,
        None,
        "sqrt",
        [1, {"uniform": [0, 1]}],
        {"name": "adam", "rate": {"loguniform": ["log(0.1)", 0]}},
        {"pchoice": [[0.5, 1], [0.5, {"choice": [1, 2]}]]},
        {"randint": [3]},
    ],
)
def test_what_a_parameter_may_be(
    validator: Any, example: dict[str, Any], expression: object
) -> None:
    example["search"]["space"] = {"choice": [{"estimator": "ridge", "alpha": expression}]}
    assert list(validator.iter_errors(example)) == []


@pytest.mark.parametrize(
    "space",
    [
        {"alpha": 1},
        {"choice": [{"alpha": 1}]},
        {"estimator": "ridge", "alpha": {"uniform": [1]}},
        {"estimator": "ridge", "alpha": {"uniform": [0, "one"]}},
        {"estimator": "ridge", "alpha": {"uniform": [0, 1], "q": 1}},
        {"estimator": "ridge", "alpha": {"choice": []}},
    ],
)
def test_what_no_space_is(validator: Any, example: dict[str, Any], space: object) -> None:
    example["search"]["space"] = space
    assert list(validator.iter_errors(example))


def test_short_forms_and_unknown_keys(validator: Any, example: dict[str, Any]) -> None:
    example["metric"] = "mae"
    assert list(validator.iter_errors(example)) == []
    example["metric"] = "mea"
    assert list(validator.iter_errors(example))
    example["metric"] = {"name": "mae"}
    example["serch"] = {}
    assert list(validator.iter_errors(example))


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ((), Pipeline),
        (("data",), Data),
        (("data", "sources", 0), Source),
        (("data", "drift"), Drift),
        (("features",), Features),
        (("features", "impute"), Impute),
        (("split",), Split),
        (("search",), Search),
        (("metric",), Metric),
        (("gate",), Gate),
        (("gate", "slices", 0), Slices),
        (("serving",), Serving),
    ],
)
def test_the_example_says_everything(
    example: dict[str, Any], path: tuple[str | int, ...], model: type[BaseModel]
) -> None:
    part: Any = example
    for key in path:
        part = part[key]
    assert set(part) == set(model.model_fields) - ({"name"} if model is Pipeline else set())


def test_the_example_shows_every_key_of_a_column(example: dict[str, Any]) -> None:
    shown = {key for column in example["data"]["columns"].values() for key in column}
    assert shown == set(Column.model_fields)


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("data:", Source),
        ("data:", Data),
        ("drift:", Drift),
        ("features:", Features),
        ("features:", Impute),
        ("split:", Split),
        ("search:", Search),
        ("gate:", Gate),
        ("  slices:", Slices),
        ("serving:", Serving),
    ],
)
def test_the_example_tells_the_default_of_each_key(section: str, model: type[BaseModel]) -> None:
    body = (FOLDER / "diabetes_progression.yaml").read_text()
    body = re.split(rf"\n *{section}", body)[1]
    for key, info in model.model_fields.items():
        default = info.get_default()
        if info.is_required() or isinstance(default, BaseModel):
            continue
        comment = re.search(rf"^ +{key}:[^#\n]*#(.*\n(?: +#.*\n)*)|^ +{key}:\s", body, re.MULTILINE)
        assert comment, key
        stated = re.search(r"(\w+) \(default\)|default ([\w.]+)", comment[1])
        assert stated, key
        word = yaml.safe_load(stated[1] or stated[2])
        assert word == default or (word == "none" and not default), key


def test_the_reference_names_every_key_metric_function_and_parameter() -> None:
    models = (
        Data,
        Source,
        Drift,
        Column,
        Split,
        Search,
        Gate,
        Slices,
        Serving,
        Overrides,
        Pipeline,
    )
    keys = {key for model in models for key in model.model_fields}
    for name in {*keys, *DIRECTIONS, CALIBRATION, *FUNCTIONS, "impute.numeric", "impute.category"}:
        assert re.search(rf"`[^`]*\b{re.escape(name)}\b[^`]*`", MANUAL), name


def test_every_key_has_a_meaning() -> None:
    tables = re.findall(r"<!-- table: \w+ -->\n\| key.*?<!-- end -->", MANUAL, re.DOTALL)
    rows = [line for table in tables for line in table.splitlines() if line.startswith("| `")]
    assert len(tables) == 11
    assert all(re.search(r"\| [^|]{5,} \|$", row) for row in rows)


def test_every_metric_can_be_named() -> None:
    assert set(get_args(MetricName)) == set(DIRECTIONS)
