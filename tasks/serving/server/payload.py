"""Reads a request in MLflow's REST protocol, more strictly than MLflow where MLflow guesses.

MLflow's server pads short rows, doubles predictions when the index is too long, and answers some
bad requests with 5xx. MLflow's own functions parse what passes the checks here.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from email.message import Message
from importlib.util import find_spec
from io import BytesIO, StringIO
from typing import Any

import mlflow.pyfunc.scoring_server
from mlflow.exceptions import MlflowException
from mlflow.types import Schema

from tasks.serving.server.contract import FORMATS
from tasks.serving.server.signature import Columns, RequestError, Signature, names

MLFLOW: Any = mlflow.pyfunc.scoring_server  # partly untyped
CSV, JSON, PARQUET = MLFLOW.CONTENT_TYPES
KINDS = (CSV, JSON, PARQUET) if find_spec("pyarrow") else (CSV, JSON)
"""What this server reads; a model's image has pyarrow only if the model requires it."""
MAX_CELLS = 20_000_000
"""Limit for Parquet, where a few bytes can represent any number of rows."""


@dataclass(frozen=True)
class Payload:
    """Rows in the form that the model's `predict` takes."""

    data: Any
    params: dict[str, Any] | None = None


@dataclass(frozen=True)
class Reader:
    """Reads the requests of one model."""

    schema: Schema | None
    signature: Signature | None

    @classmethod
    def from_schema(cls, schema: Schema | None) -> Reader:
        """A reader for a model with this input schema."""
        return cls(schema, Signature.from_schema(schema))

    def read(self, body: bytes, content_type: str | None) -> Payload:
        """Parse and check a body.

        Raises:
            RequestError: The model cannot answer this request.
        """
        kind = _media_type(content_type)
        try:
            if kind == JSON:
                return self._json(body)
            return Payload(self._csv(body) if kind == CSV else self._parquet(body))
        except (MlflowException, RecursionError, OverflowError, ValueError, TypeError) as err:
            raise self.mismatch() from err

    def mismatch(self) -> RequestError:
        """The response where MLflow's own message would repeat the input."""
        expected = self.signature or self.schema
        return RequestError(f"The input does not fit the model's signature: {expected}.")

    def _json(self, body: bytes) -> Payload:
        try:
            content = json.loads(body)
        except RecursionError as err:
            raise RequestError("The body is nested too deeply.") from err
        except ValueError as err:
            raise RequestError("The body is not valid JSON.") from err
        keys = [key for key in FORMATS if isinstance(content, dict) and key in content]
        if len(keys) != 1:
            raise RequestError(
                f"The body must be a JSON object with exactly one of {names(FORMATS)}."
            )
        params = content.get("params")
        if not isinstance(params, dict | None):
            raise RequestError("'params' must be an object.")
        value = content[keys[0]]
        if self.signature:
            self.signature.check(_columns(keys[0], value, self.signature))
        return Payload(MLFLOW.infer_and_parse_data({keys[0]: value}, self.schema), params)

    def _csv(self, body: bytes) -> Any:
        try:
            text = body.decode("utf-8-sig")
            rows = [row for row in csv.reader(StringIO(text), strict=True) if row]
        except (UnicodeDecodeError, csv.Error) as err:
            raise RequestError("The body is not valid CSV in UTF-8.") from err
        header, values = (rows[0], rows[1:]) if rows else ([], [])
        if (
            values and len(values[0]) == len(header) + 1
        ):  # for pandas, the first column is the index
            header = ["", *header]
        columns = _table(header, values)
        if self.signature:
            if self.signature.as_numbers(columns):
                text = _as_csv(columns)
            self.signature.check(columns, text=True)
        return MLFLOW.parse_csv_input(StringIO(text), self.schema)

    def _parquet(self, body: bytes) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(BytesIO(body))
            if file.metadata.num_rows * file.metadata.num_columns > MAX_CELLS:
                raise RequestError(f"The table has more than {MAX_CELLS} cells.", 413, "TOO_LARGE")
            table = file.read()
        except (pa.ArrowException, OSError) as err:
            raise RequestError("The body is not a valid Parquet file.") from err
        if not table.num_rows:
            raise RequestError("The input has no rows.")
        for name in self.signature.never_null if self.signature else ():
            if name in table.column_names and table[name].null_count:
                raise RequestError(f"Column '{name}' must not have nulls.")
        return MLFLOW.parse_parquet_input(BytesIO(body))


def _media_type(content_type: str | None) -> str:
    """The media type, in any spelling; parameters other than `charset` are ignored."""
    header = Message()
    header["Content-Type"] = content_type or ""
    kind = header.get_content_type()
    kind = PARQUET if kind == "application/x-parquet" else kind
    if kind not in KINDS or header.get_content_charset("utf-8") not in {"utf-8", "utf8"}:
        raise RequestError(
            f"The 'Content-Type' of a request must be {' or '.join(KINDS)}, in UTF-8.",
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        )
    return kind


def _columns(name: str, value: Any, signature: Signature) -> Columns:
    if name == "dataframe_split":
        return _from_split(value)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return _from_records(value, signature)
    if name == "dataframe_records":
        raise RequestError("'dataframe_records' must be a list of objects, one per row.")
    if isinstance(value, dict):
        return _from_dict(name, value)
    if isinstance(value, list) and len(signature.types) == 1:
        return {next(iter(signature.types)): value}
    raise RequestError(f"'{name}' must name the model's columns: an object, or a list of objects.")


def _from_split(value: Any) -> Columns:
    if not isinstance(value, dict) or not {"columns", "data"} <= value.keys():
        raise RequestError("'dataframe_split' must be an object with 'columns' and 'data'.")
    header, rows, index = value["columns"], value["data"], value.get("index")
    if not isinstance(header, list) or not all(isinstance(name, str) for name in header):
        raise RequestError("'columns' must be a list of names.")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise RequestError("'data' must be a list of lists, one per row.")
    if index is not None and (not isinstance(index, list) or len(index) != len(rows)):
        raise RequestError("'index' must have one entry per row of 'data'.")
    return _table(header, rows)


def _table(header: list[str], rows: list[list[Any]]) -> Columns:
    if not rows:
        raise RequestError("The input has no rows.")
    if len(set(header)) != len(header):
        raise RequestError("A column is named more than once.")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise RequestError(f"Row {number} has {len(row)} values for {len(header)} columns.")
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def _as_csv(columns: Columns) -> str:
    body = StringIO()
    csv.writer(body).writerows([columns, *zip(*columns.values(), strict=True)])
    return body.getvalue()


def _from_records(rows: list[dict[str, Any]], signature: Signature) -> Columns:
    if not rows:
        raise RequestError("The input has no rows.")
    present = {name for row in rows for name in row}
    required = present & set(signature.required)
    for number, row in enumerate(rows):
        if short := required - row.keys():
            raise RequestError(f"Row {number} has no value for {names(sorted(short))}.")
    return {name: [row.get(name) for row in rows] for name in present}


def _from_dict(name: str, value: dict[str, Any]) -> Columns:
    columns = {key: column for key, column in value.items() if isinstance(column, list)}
    if not columns:
        return {key: [scalar] for key, scalar in value.items()}
    if len(columns) < len(value) or len({len(column) for column in columns.values()}) > 1:
        raise RequestError(f"The columns of '{name}' must be lists of the same length.")
    return columns
