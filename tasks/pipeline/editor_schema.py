"""The JSON schema of a pipeline file, for editors to complete and to check while typing."""

from __future__ import annotations

import json
from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import override

from tasks.pipeline.distributions import ARGUMENTS
from tasks.pipeline.metrics import MetricName
from tasks.pipeline.nodes import ESTIMATOR
from tasks.pipeline.schema import Pipeline

NUMBER_TEXT = r"^log\(.+\)$"
WHAT = {
    "uniform": "any number from low to high",
    "quniform": "multiples of q from low to high",
    "uniformint": "integers from low to high",
    "loguniform": "numbers whose logarithm is uniform; bounds are logarithms: [log(0.001), log(1)]",
    "qloguniform": "loguniform, rounded to multiples of q",
    "normal": "numbers around mu",
    "qnormal": "normal, rounded to multiples of q",
    "lognormal": "numbers whose logarithm is normal; mu is a logarithm",
    "qlognormal": "lognormal, rounded to multiples of q",
    "randint": "integers from low to high - 1, or with [high] from 0; no order among them",
}
"""Each distribution in a line."""


def text() -> str:
    """The schema as the file `pipelines/schema.json` holds it."""
    return json.dumps(build(), indent=2) + "\n"


def build() -> dict[str, Any]:
    """The schema: pydantic's, with the grammar of the space and the short forms."""
    schema = Pipeline.model_json_schema(schema_generator=_Generator)
    definitions = schema["$defs"] | _space()
    schema["required"].remove("name")
    definitions["Metric"]["required"].remove("direction")
    properties = schema["properties"]
    short = {"enum": list(get_args(MetricName))}
    about = properties["metric"].pop("description")
    properties["metric"] = {"description": about, "anyOf": [short, {"$ref": "#/$defs/Metric"}]}
    space = definitions["Search"]["properties"]["space"]
    definitions["Search"]["properties"]["space"] = {
        "description": space["description"],
        "$ref": "#/$defs/Option",
    }
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline file",
    }
    return head | schema | {"title": "A pipeline file", "$defs": dict(sorted(definitions.items()))}


def _space() -> dict[str, Any]:
    expressions = {name: _arguments(arguments, WHAT[name]) for name, arguments in ARGUMENTS.items()}
    return {
        "Number": {
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": NUMBER_TEXT}],
            "description": "a number, or log(NUMBER)",
        },
        "Option": {
            "description": "one model family with its parameters, or a choice of such options",
            **_expression(_choices("Option")),
            "else": {
                "type": "object",
                "properties": {
                    ESTIMATOR: {
                        "type": "string",
                        "description": "the model family: a module of tasks/models/estimators",
                    }
                },
                "required": [ESTIMATOR],
                "additionalProperties": {"$ref": "#/$defs/Value"},
            },
        },
        "Value": {
            "description": "an expression of hyperopt's, or a value, list or mapping as it is",
            **_expression(_choices("Value") | expressions),
            "else": {
                "type": ["null", "boolean", "number", "string", "array", "object"],
                "items": {"$ref": "#/$defs/Value"},
                "additionalProperties": {"$ref": "#/$defs/Value"},
            },
        },
    }


def _expression(functions: dict[str, Any]) -> dict[str, Any]:
    """A mapping with a function's name holds nothing else."""
    return {
        "if": {"type": "object", "anyOf": [{"required": [name]} for name in functions]},
        "then": {"properties": functions, "additionalProperties": False, "maxProperties": 1},
    }


def _choices(of: str) -> dict[str, Any]:
    option = {"$ref": f"#/$defs/{of}"}
    pair = {
        "type": "array",
        "prefixItems": [{"$ref": "#/$defs/Number"}, option],
        "minItems": 2,
        "maxItems": 2,
    }
    return {
        "choice": {
            "type": "array",
            "minItems": 1,
            "items": option,
            "description": "one of several, equally likely",
        },
        "pchoice": {
            "type": "array",
            "minItems": 1,
            "items": pair,
            "description": "one of several, each [PROBABILITY, OPTION]",
        },
    }


def _arguments(names: tuple[str, ...], about: str) -> dict[str, Any]:
    least = 1 if about is WHAT["randint"] else len(names)
    return {
        "type": "array",
        "items": {"$ref": "#/$defs/Number"},
        "minItems": least,
        "maxItems": len(names),
        "description": f"[{', '.join(names)}]: {about}",
    }


class _Generator(GenerateJsonSchema):
    """Without titles: `Trial Timeout` says no more than `trial_timeout`."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
