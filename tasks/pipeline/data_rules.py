"""What a pipeline file says of its data, part against part."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as Folder
from urllib.parse import urlsplit

from tasks.base.problems import Path, Problem, did_you_mean
from tasks.pipeline.metrics import Task
from tasks.pipeline.schema import Column, Drift, Scalar, Source

DATABASE = "postgresql"
HTTP = ("https", "http")
SCHEMES = ("sklearn", "file", *HTTP, "s3", DATABASE)
GLOBS = ("file", "s3")
CONNECTED = ("s3", DATABASE)
"""Those that can take an Airflow connection."""

_DATABASE = re.compile(r"postgresql://[\w-]*")

Problems = Iterator[Problem]
Columns = Mapping[str, Column]
Rule = tuple[Callable[..., Problems], tuple[str, ...]]
"""What finds problems in fields, and their names (`split.test`)."""


def _sources(sources: tuple[Source, ...]) -> Problems:
    for i, source in enumerate(sources):
        yield from _source(source, ("data", "sources", i))


def _constants(sources: tuple[Source, ...], columns: Columns, prepare: str | None) -> Problems:
    if prepare is not None:
        return
    for i, source in enumerate(sources):
        for name in source.constants:
            yield from is_column(name, columns, ("data", "sources", i, "constants", name))


def _source(source: Source, place: Path) -> Problems:
    scheme, separator, rest = source.uri.partition("://")
    if not separator or scheme not in SCHEMES or not (rest or scheme == DATABASE):
        must = f"begin with {', '.join(f'{known}://' for known in SCHEMES)}, a name after it"
        fix = did_you_mean(scheme, SCHEMES) if separator else ""
        yield Problem((*place, "uri"), must, source.uri, fix)
        return
    if source.connection is not None and scheme not in CONNECTED:
        must = f"be left out: it is for {' and '.join(f'{known}://' for known in CONNECTED)}"
        yield Problem((*place, "connection"), must, source.connection)
    yield from _query(source, scheme, place)
    if scheme == DATABASE:
        return
    try:
        name = urlsplit(source.uri).path if scheme in HTTP else source.uri
    except ValueError as err:
        must = "be an address, e.g. https://example.org/rows.csv"
        yield Problem((*place, "uri"), must, source.uri, fix=f"{err}.")
        return
    is_glob = any(character in name for character in "*?[")
    if is_glob and scheme not in GLOBS:
        must = "name one file: only file:// and s3:// may hold *"
        yield Problem((*place, "uri"), must, source.uri)
    if is_glob and source.sha256:
        must = "be left out where 'uri' stands for several files"
        yield Problem((*place, "sha256"), must, source.sha256)


def _query(source: Source, scheme: str, place: Path) -> Problems:
    if scheme != DATABASE:
        if source.query is not None:
            yield Problem((*place, "query"), f"be left out: it is for {DATABASE}://", source.query)
        return
    if not _DATABASE.fullmatch(source.uri):
        # A password in the file would end up in every copy and record of it.
        must = "be postgresql:// or postgresql://DATABASE; the connection says the rest"
        yield Problem((*place, "uri"), must, source.uri)
    if not (source.query or "").strip():
        yield Problem((*place, "query"), f"be the SQL of a {DATABASE}:// source", source.query)
    if source.connection is None:
        yield Problem((*place, "connection"), f"be named for {DATABASE}://")
    for key in ("format", "options"):
        if getattr(source, key):
            must = f"be left out: a {DATABASE}:// source has none"
            yield Problem((*place, key), must, getattr(source, key))


def _drift(drift: Drift, columns: Columns) -> Problems:
    if any(column.nullable for column in columns.values()):
        return
    for key in ("lost", "type"):
        if getattr(drift, key) == "fill":
            fix = "Give the columns that may be without values nullable: true."
            yield Problem(("data", "drift", key), "be reject: no column is nullable", "fill", fix)


def _columns(columns: Columns) -> Problems:
    for name, column in columns.items():
        yield from _column(column, ("data", "columns", name))


def _column(column: Column, place: Path) -> Problems:
    numeric = column.type in {"double", "integer"}
    for key in ("min", "max"):
        if getattr(column, key) is not None and not numeric:
            must = f"be left out of a {column.type} column"
            yield Problem((*place, key), must, getattr(column, key))
    if column.min is not None and column.max is not None and column.min > column.max:
        yield Problem((*place, "min"), f"be at most its max, {column.max:g}", column.min)
    if column.values is not None:
        yield from _values(column, column.values, (*place, "values"))


def _values(column: Column, values: tuple[Scalar, ...], place: Path) -> Problems:
    if column.type == "datetime" or not values:
        must = "be left out of a datetime column" if values else "name at least one value"
        yield Problem(place, must, values)
    elif column.type in {"category", "string"}:
        names = column.categories or ()
        for i, name in enumerate(names):
            if name in names[:i]:
                yield Problem((*place, i), "be other than the values before it", values[i])
    else:
        for i, value in enumerate(values):
            if isinstance(value, str):
                yield Problem((*place, i), f"be a value of type {column.type}", value)


def _target(target: str, columns: Columns) -> Problems:
    yield from is_column(target, columns, ("data", "target"))
    if target in columns and columns[target].nullable:
        yield Problem(("data", "columns", target, "nullable"), "be false for the target", True)


def _target_type(target: str, task: Task, columns: Columns) -> Problems:
    if target not in columns:
        return
    found = columns[target].type
    place = ("data", "columns", target, "type")
    if task == "regression" and found not in {"double", "integer"}:
        yield Problem(place, "be double or integer for the target of a regression", found)
    if task != "regression" and found == "datetime":
        yield Problem(place, f"be no datetime for a {task} target", found)


def _class_weights(
    weights: str | Mapping[str, float] | None, task: Task, target: str, columns: Columns
) -> Problems:
    place = ("data", "class_weights")
    if weights is None:
        return
    if task == "regression":
        yield Problem(place, "be left out of a regression, which has no classes", weights)
    elif not isinstance(weights, str):
        kind = columns[target].type if target in columns else "category"
        pattern, words = _LABELS.get(kind, (".*", ""))
        for label, weight in weights.items():
            if not re.fullmatch(pattern, label):
                yield Problem((*place, label), f"name a class, {words}", label)
            if weight <= 0:
                yield Problem((*place, label), "be greater than 0", weight)


_LABELS = {
    "boolean": ("true|false", "true or false"),
    "integer": (r"-?\d+", "a whole number"),
    "double": (r"-?\d+", "a whole number"),
}
"""How the classes of a target are named, by its type."""


def _preparation(prepare: str | None, folder: Folder) -> Problems:
    if prepare is None:
        return
    place = ("data", "prepare")
    module, _, function = prepare.partition(":")
    file = folder / f"{module}.py"
    if not file.is_file():
        near = did_you_mean(module, (other.stem for other in folder.glob("*.py")))
        must = f"name a module beside the file, but there is no {file.name}"
        yield Problem(place, must, prepare, near)
        return
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        yield Problem(place, f"name a module of Python, but {file.name} is not: {error}")
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


def is_column(name: str, columns: Columns, place: Path) -> Problems:
    """A rule for any field that names a column."""
    if name not in columns:
        yield Problem(place, "be one of data.columns", name, did_you_mean(name, columns))


RULES: tuple[Rule, ...] = (
    (_sources, ("data.sources",)),
    (_constants, ("data.sources", "data.columns", "data.prepare")),
    (_columns, ("data.columns",)),
    (_drift, ("data.drift", "data.columns")),
    (_target, ("data.target", "data.columns")),
    (_target_type, ("data.target", "data.task", "data.columns")),
    (_preparation, ("data.prepare", "folder")),
    (_class_weights, ("data.class_weights", "data.task", "data.target", "data.columns")),
)
