"""A model's input signature, and the checks of values that MLflow omits.

MLflow's server lets integers overflow, turns 1.5 into 1 and null into false, and reads any text as
true. No message repeats a value, which may be personal data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.types import DataType, Schema

Columns = dict[str, list[Any]]
"""The values of each column, one per row."""

# What pandas.read_csv reads as a missing value, according to its documentation.
MISSING = frozenset(
    (
        *("", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"),
        *("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    )
)


class RequestError(Exception):
    """A request that gets a 4xx response."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str = "BAD_REQUEST",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message, self.status, self.code, self.headers = message, status, code, headers or {}
        super().__init__(message)


TRUTH = {"true": "1", "false": "0", "t": "1", "f": "0"}
"""How `tasks.data.checking` reads a boolean column."""


@dataclass(frozen=True)
class Signature:
    """Named columns of scalars."""

    types: dict[str, DataType]
    required: tuple[str, ...]

    @classmethod
    def from_schema(cls, schema: Schema | None) -> Signature | None:
        """The signature of a schema; None for tensors, nested types or without a schema."""
        if schema is None or not schema.has_input_names():
            return None
        types = {
            str(name): spec.type
            for name, spec in schema.input_dict().items()
            if isinstance(spec.type, DataType)
        }
        if len(types) < len(schema.inputs):
            return None
        return cls(types, tuple(map(str, schema.required_input_names())))

    @property
    def never_null(self) -> list[str]:
        """Columns whose type cannot represent a missing value."""
        kinds = (DataType.integer, DataType.long, DataType.boolean)
        return [name for name, kind in self.types.items() if kind in kinds]

    def check(self, columns: Columns, *, text: bool = False) -> None:
        """Check the columns of a request; `text`: every value is a string, as in CSV.

        Raises:
            RequestError: A column is missing, or a value is not of its column's type.
        """
        missing = [name for name in self.required if name not in columns]
        if missing:
            raise RequestError(f"The input has no column {names(missing)}.")
        for name, kind in self.types.items():
            problem = (_OF_TEXT if text else _OF_VALUES)[kind]
            for number, value in enumerate(columns.get(name, ())):
                if expected := problem(value):
                    raise RequestError(f"Row {number} of column '{name}' must be {expected}.")

    def as_numbers(self, columns: Columns) -> bool:
        """Replace true and false by numbers where the model takes numbers; says if any were there.

        Our models take boolean columns as numbers, because numbers may be missing.
        """
        changed = False
        for name, kind in self.types.items():
            if kind in (DataType.double, DataType.float) and name in columns:
                cells = columns[name]
                columns[name] = [TRUTH.get(cell.strip().lower(), cell) for cell in cells]
                changed |= columns[name] != cells
        return changed

    def __str__(self) -> str:
        return ", ".join(f"{name} ({kind.name})" for name, kind in self.types.items())


def names(columns: Iterable[str]) -> str:
    """The names as they appear in a message."""
    return ", ".join(f"'{name}'" for name in columns)


Problem = Callable[[Any], str]
"""Returns what a value should have been; empty when it is valid."""


def _number(value: Any) -> str:
    if value is None or type(value) is float:
        return ""
    try:
        if isinstance(value, int | str):
            float(value)
            return ""
    except (ValueError, OverflowError):
        pass
    return "a number"


def _whole(bits: int) -> Problem:
    expected, end = f"a whole number of {bits} bits", 2 ** (bits - 1)

    def problem(value: Any) -> str:
        if not isinstance(value, int | float | str):
            return expected
        try:
            number = int(value)
        except (ValueError, OverflowError):
            return expected
        exact = isinstance(value, str) or number == value
        return "" if exact and -end <= number < end else expected

    return problem


def _boolean(value: Any) -> str:
    return "" if isinstance(value, int | float) and value in (0, 1) else "true or false"


def _text(value: Any) -> str:
    return "" if isinstance(value, str | None) else "text"


def _single(value: Any) -> str:
    return "a single value" if isinstance(value, list | dict) else ""


_OF_VALUES: Mapping[DataType, Problem] = {
    DataType.double: _number,
    DataType.float: _number,
    DataType.integer: _whole(32),
    DataType.long: _whole(64),
    DataType.boolean: _boolean,
    DataType.string: _text,
    DataType.binary: _text,
    DataType.datetime: _single,
}
_OF_TEXT: Mapping[DataType, Problem] = {
    **_OF_VALUES,
    DataType.double: lambda value: "" if value in MISSING else _number(value),
    DataType.float: lambda value: "" if value in MISSING else _number(value),
    DataType.boolean: lambda value: "" if value.lower() in ("true", "false") else "true or false",
}
