"""Rules for the `data` section of a pipeline file."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path as Folder
from urllib.parse import urlsplit

from tasks.base.problems import Path, Problem, did_you_mean
from tasks.pipeline.schema import Column, Pipeline, Scalar, Source, WrongFieldError

DATABASE = "postgresql"
HTTP = ("https", "http")
SCHEMES = ("sklearn", "file", *HTTP, "s3", DATABASE)
GLOBS = ("file", "s3")
CONNECTED = ("s3", DATABASE)
"""The schemes that accept an Airflow connection."""

_DATABASE = re.compile(r"postgresql://[\w-]*")

Problems = Iterator[Problem]
Rule = Callable[[Pipeline], Problems]
"""Yields what is wrong. It stops with a `WrongFieldError` where it needs a field that is wrong."""


def _check_sources(pipeline: Pipeline) -> Problems:
    for i, source in enumerate(pipeline.data.sources):
        with suppress(WrongFieldError):
            yield from _check_source(source, ("data", "sources", i))


def _check_constants(pipeline: Pipeline) -> Problems:
    if pipeline.data.prepare is not None:
        return
    for i, source in enumerate(pipeline.data.sources):
        for name in source.constants:
            place = ("data", "sources", i, "constants", name)
            yield from check_column_name(name, pipeline, place)


def _check_source(source: Source, place: Path) -> Problems:
    scheme, separator, rest = source.uri.partition("://")
    if not separator or scheme not in SCHEMES or not (rest or scheme == DATABASE):
        must = f"begin with {', '.join(f'{known}://' for known in SCHEMES)}, followed by a name"
        fix = did_you_mean(scheme, SCHEMES) if separator else ""
        yield Problem((*place, "uri"), must, source.uri, fix)
        return
    if source.connection is not None and scheme not in CONNECTED:
        must = f"be left out: it is for {' and '.join(f'{known}://' for known in CONNECTED)}"
        yield Problem((*place, "connection"), must, source.connection)
    if scheme == DATABASE:
        yield from _check_query(source, place)
        return
    if source.query is not None:
        yield Problem((*place, "query"), f"be left out: it is for {DATABASE}://", source.query)
    try:
        name = urlsplit(source.uri).path if scheme in HTTP else source.uri
    except ValueError as err:
        must = "be an address, e.g. https://example.org/rows.csv"
        yield Problem((*place, "uri"), must, source.uri, fix=f"{err}.")
        return
    is_glob = any(character in name for character in "*?[")
    if is_glob and scheme not in GLOBS:
        must = "name one file: only file:// and s3:// may contain *, ? and ["
        yield Problem((*place, "uri"), must, source.uri)
    if is_glob and source.sha256:
        must = "be left out: 'uri' stands for several files"
        yield Problem((*place, "sha256"), must, source.sha256)


def _check_query(source: Source, place: Path) -> Problems:
    if not _DATABASE.fullmatch(source.uri):
        # A password in the file would end up in every copy and record of it.
        must = "be postgresql:// or postgresql://DATABASE; the rest belongs in the connection"
        yield Problem((*place, "uri"), must, source.uri)
    if not (source.query or "").strip():
        yield Problem((*place, "query"), f"be the SQL of a {DATABASE}:// source", source.query)
    if source.connection is None:
        yield Problem((*place, "connection"), f"be given for {DATABASE}://")
    for key in ("format", "options"):
        if getattr(source, key):
            must = f"be left out of a {DATABASE}:// source"
            yield Problem((*place, key), must, getattr(source, key))


def _check_drift(pipeline: Pipeline) -> Problems:
    data = pipeline.data
    if any(column.nullable for column in data.columns.values()):
        return
    for key in ("lost", "type"):
        if getattr(data.drift, key) == "fill":
            fix = "Set nullable: true for the columns that may lack values."
            yield Problem(("data", "drift", key), "be reject: no column is nullable", "fill", fix)


def _check_columns(pipeline: Pipeline) -> Problems:
    for name, column in pipeline.data.columns.items():
        with suppress(WrongFieldError):
            yield from _check_column(column, ("data", "columns", name))


def _check_column(column: Column, place: Path) -> Problems:
    for key in ("min", "max"):
        if getattr(column, key) is not None and column.type not in {"double", "integer"}:
            must = f"be left out of a {column.type} column"
            yield Problem((*place, key), must, getattr(column, key))
    if column.min is not None and column.max is not None and column.min > column.max:
        yield Problem((*place, "min"), f"be at most max, {column.max:g}", column.min)
    if column.values is not None:
        yield from _check_values(column, column.values, (*place, "values"))


def _check_values(column: Column, values: tuple[Scalar, ...], place: Path) -> Problems:
    if column.type == "datetime" or not values:
        must = "be left out of a datetime column" if values else "contain at least one value"
        yield Problem(place, must, values)
    elif column.type in {"category", "string"}:
        names = column.categories or ()
        for i, name in enumerate(names):
            if name in names[:i]:
                yield Problem((*place, i), "differ from the values before it", values[i])
    else:
        for i, value in enumerate(values):
            if isinstance(value, str):
                yield Problem((*place, i), f"be a value of type {column.type}", value)


def _check_target(pipeline: Pipeline) -> Problems:
    target, columns = pipeline.data.target, pipeline.data.columns
    yield from check_column_name(target, pipeline, ("data", "target"))
    if target in columns and columns[target].nullable:
        yield Problem(("data", "columns", target, "nullable"), "be false for the target", True)


def _check_target_type(pipeline: Pipeline) -> Problems:
    data = pipeline.data
    if data.target not in data.columns:
        return
    column_type = data.columns[data.target].type
    place = ("data", "columns", data.target, "type")
    if data.task == "regression" and column_type not in {"double", "integer"}:
        yield Problem(place, "be double or integer for the target of a regression", column_type)
    if data.task != "regression" and column_type == "datetime":
        yield Problem(place, f"not be datetime for the target of a {data.task} task", column_type)


def _check_class_weights(pipeline: Pipeline) -> Problems:
    place = ("data", "class_weights")
    data, weights = pipeline.data, pipeline.data.class_weights
    if weights is None:
        return
    if data.task == "regression":
        yield Problem(place, "be left out of a regression, which has no classes", weights)
    elif not isinstance(weights, str):
        column_type = data.columns[data.target].type if data.target in data.columns else "category"
        pattern, words = _LABELS.get(column_type, (".*", ""))
        for label, weight in weights.items():
            if not re.fullmatch(pattern, label):
                yield Problem((*place, label), f"name a class: {words}", label)
            if weight <= 0:
                yield Problem((*place, label), "be greater than 0", weight)


_LABELS = {
    "boolean": ("true|false", "true or false"),
    "integer": (r"-?\d+", "an integer"),
    "double": (r"-?\d+", "an integer"),
}
"""The form of the labels, by the target's type."""


def check_preparation(pipeline: Pipeline, folder: Folder | None) -> Problems:
    """Whether the function of `prepare` exists in a module in `folder`, which is not run."""
    place, prepare = ("data", "prepare"), pipeline.data.prepare
    if prepare is None or folder is None:
        return
    module, _, function = prepare.partition(":")
    file = folder / f"{module}.py"
    if not file.is_file():
        near = did_you_mean(module, (other.stem for other in folder.glob("*.py")))
        must = f"name a module beside the file, but {file.name} does not exist"
        yield Problem(place, must, prepare, near)
        return
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        yield Problem(place, f"name a Python module, but {file.name} is not valid: {error}")
        return
    functions = _callables(tree)
    if function not in functions:
        must = f"name a function that {file.name} defines"
        yield Problem(place, must, prepare, did_you_mean(function, functions))


def _callables(tree: ast.Module) -> list[str]:
    """The functions that a module defines or imports by name."""
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
    return names


def check_column_name(name: str, pipeline: Pipeline, place: Path) -> Problems:
    """For any field that names a column."""
    columns = pipeline.data.columns
    if name not in columns:
        yield Problem(place, "be one of data.columns", name, did_you_mean(name, columns))


RULES: tuple[Rule, ...] = (
    _check_sources,
    _check_constants,
    _check_columns,
    _check_drift,
    _check_target,
    _check_target_type,
    _check_class_weights,
)
