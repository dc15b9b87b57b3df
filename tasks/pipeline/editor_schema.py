"""The JSON schema of a pipeline file, by which editors complete and check it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import override

from tasks.base.settings import REPOSITORY
from tasks.pipeline.distributions import ARGUMENTS, MEANINGS
from tasks.pipeline.metrics import MetricName
from tasks.pipeline.nodes import ESTIMATOR
from tasks.pipeline.schema import Metric, Pipeline, Search

FILE = REPOSITORY / "pipelines" / "schema.json"
NUMBER = {"$ref": "#/$defs/Number"}
NUMBER_TEXT = r"^log\(.+\)$"


def text() -> str:
    """The schema as in `pipelines/schema.json`, with each docstring on one line."""
    return json.dumps(build(), indent=2).replace(r"\n", " ") + "\n"


def build() -> dict[str, Any]:
    """Pydantic's schema, with the grammar of the space and the short forms."""
    schema = Pipeline.model_json_schema(schema_generator=_Generator)
    definitions = schema["$defs"] | _space()
    schema["required"].remove("name")
    definitions["Metric"]["required"].remove("direction")
    schema["properties"]["metric"] = {
        "description": Metric.__doc__,
        "anyOf": [{"enum": list(get_args(MetricName))}, {"$ref": "#/$defs/Metric"}],
    }
    definitions["Search"]["properties"]["space"] = {
        "description": Search.model_fields["space"].description,
        "$ref": "#/$defs/Option",
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | schema | {"title": "A pipeline file", "$defs": dict(sorted(definitions.items()))}


def _space() -> dict[str, Any]:
    expressions = {name: _arguments(name) for name in ARGUMENTS}
    return {
        "Number": {
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": NUMBER_TEXT}],
            "description": "A number, or log(NUMBER).",
        },
        "Option": {
            "description": "A model family with its parameters, or a choice of such options.",
            **_expression(_choices("Option")),
            "else": {
                "type": "object",
                "properties": {
                    ESTIMATOR: {
                        "type": "string",
                        "description": "The model family: a module of tasks/models/estimators.",
                    }
                },
                "required": [ESTIMATOR],
                "additionalProperties": {"$ref": "#/$defs/Value"},
            },
        },
        "Value": {
            "description": "An expression of hyperopt's, or a constant, a list or a mapping.",
            **_expression(_choices("Value") | expressions),
            "else": {
                "type": ["null", "boolean", "number", "string", "array", "object"],
                "items": {"$ref": "#/$defs/Value"},
                "additionalProperties": {"$ref": "#/$defs/Value"},
            },
        },
    }


def _expression(functions: dict[str, Any]) -> dict[str, Any]:
    """A mapping with the name of a function has no other key."""
    return {
        "if": {"type": "object", "anyOf": [{"required": [name]} for name in functions]},
        "then": {"properties": functions, "additionalProperties": False, "maxProperties": 1},
    }


def _choices(kind: str) -> dict[str, Any]:
    option = {"$ref": f"#/$defs/{kind}"}
    pair = {"type": "array", "prefixItems": [NUMBER, option], "minItems": 2, "maxItems": 2}
    return {
        "choice": _list(option, MEANINGS["choice"], minItems=1),
        "pchoice": _list(pair, MEANINGS["pchoice"], minItems=1),
    }


def _arguments(name: str) -> dict[str, Any]:
    arguments = ARGUMENTS[name]
    least = 1 if name == "randint" else len(arguments)
    meaning = f"[{', '.join(arguments)}]: {MEANINGS[name]}"
    return _list(NUMBER, meaning, minItems=least, maxItems=len(arguments))


def _list(items: Mapping[str, Any], meaning: str, **limits: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **limits, "description": meaning}


class _Generator(GenerateJsonSchema):
    """Without titles: `Trial Timeout` adds nothing to `trial_timeout`."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
