"""Reads files as tables, by the options of the pipeline file."""

from __future__ import annotations

import json
import lzma
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.base.errors import UserError
from tasks.data import query
from tasks.data.checking import TEXT
from tasks.data.schemes import file_name
from tasks.data.sources import Fetched
from tasks.pipeline.schema import Data, Source

Format = Literal["csv", "parquet", "jsonl"]
_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
}
DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    RuntimeError,  # an encrypted archive
)
"""What pandas' readers raise for a file that is not what its name says, or is damaged."""
CELLS = 2_000_000
"""Values of a table that are read at once when it is read in pieces."""


def source_format(source: Source) -> Format:
    """The format of a source: declared, or by the ending of its address."""
    if source.format:
        return source.format
    if source.uri.startswith(("sklearn://", "postgresql://")):
        return "csv"
    name = file_name(source.uri).lower()
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    raise UserError(
        f"The 'format' of source {source.uri} must be csv, parquet or jsonl. Got nothing instead.",
        why="The ending of the address names no known format.",
        fix="Add format to the source in the pipeline file.",
    )


def read(fetched: Fetched, data: Data) -> pd.DataFrame:
    """The table of one source: its files concatenated, its constants added as columns."""
    source = fetched.source
    tables: list[pd.DataFrame] = []
    for file, path in zip(fetched.files, fetched.paths, strict=True):
        (table,) = _pieces(source, file.uri, path, data, None)
        if tables and set(table.columns) != set(tables[0].columns):
            differing = sorted(set(map(str, table.columns)) ^ set(map(str, tables[0].columns)))
            raise UserError(
                f"The files of {source.uri} do not have the same columns.",
                why=f"{file.uri} and {fetched.files[0].uri} differ in {', '.join(differing)}.",
                fix="Correct the files, or make each a source of its own.",
            )
        tables.append(table)
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def pieces(fetched: Fetched, data: Data) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of one source in order, in pieces, each with the URI of its file."""
    rows = max(1, CELLS // len(data.columns))
    for file, path in zip(fetched.files, fetched.paths, strict=True):
        for piece in _pieces(fetched.source, file.uri, path, data, rows):
            yield file.uri, piece


def _pieces(
    source: Source, uri: str, path: Path, data: Data, rows: int | None
) -> Iterator[pd.DataFrame]:
    """The table of one file, in pieces of `rows` rows, or as a whole."""
    kind = source_format(source)
    texts = {name for name, column in data.columns.items() if column.type in {*TEXT, "datetime"}}
    options = {
        **_defaults(kind, texts, source.options),
        **source.options,
        **(query.READ if source.query else {}),
    }
    frames = _READERS[kind](path, rows, options, texts)
    first = True
    while True:
        try:
            with warnings.catch_warnings():
                # pandas truncates rows longer than the header with only a warning.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                piece = next(frames, None)
        except (*DAMAGED, *_BAD_OPTIONS) as err:
            _check_separator(uri, path, options, kind)
            raise UserError(
                f"{uri} cannot be read as {kind}.",
                why=f"{type(err).__name__}: {err}",
                fix=_ENCODING
                if isinstance(err, UnicodeError)
                else "Check the file, and format and options of the source in the pipeline file.",
            ) from err
        if piece is None:
            if first:  # an empty file has some bytes when compressed
                raise UserError(f"{uri} is empty.", fix="Ask its publisher, or leave it out.")
            return
        if not isinstance(piece, pd.DataFrame):
            raise UserError(
                f"The 'options' of source {source.uri} must produce a table. "
                f"Got {type(piece).__name__} instead."
            )
        if first and len(piece.columns) == 1 < len(data.columns) - len(source.constants):
            _check_separator(uri, path, options, kind)
        first = False
        yield _with_constants(source, piece)


def _check_separator(uri: str, path: Path, options: dict[str, Any], kind: Format) -> None:
    """Raise a specific error if the header of a CSV file was read as one column."""
    if kind != "csv":
        return
    try:
        header = [str(name) for name in pd.read_csv(path, **(options | {"nrows": 0})).columns]
    except (*DAMAGED, *_BAD_OPTIONS):
        return
    used = [sep for sep in (";", "\t", "|", ",") if len(header) == 1 and sep in header[0]]
    if used:
        raise UserError(
            f"{uri} cannot be read as csv.",
            why=f"Its header was read as one column: {header[0]}.",
            fix=f"Name the separator in options of the source in the pipeline file, e.g. "
            f"options: {{sep: {json.dumps(used[0])}}}.",
        )


_ENCODING = (
    "Name the encoding in options of the source in the pipeline file, "
    "e.g. options: {encoding: latin-1}."
)


def _with_constants(source: Source, table: pd.DataFrame) -> pd.DataFrame:
    clash = sorted(set(source.constants) & set(table.columns))
    if clash:
        raise UserError(
            f"The 'constants' of source {source.uri} must be new columns. "
            f"Got {', '.join(clash)} instead, which the file already has.",
        )
    return table.assign(**source.constants)


def _defaults(kind: Format, texts: set[str], declared: dict[str, Any]) -> dict[str, Any]:
    """Options that the file may override."""
    match kind:
        case "csv":
            # Text columns are read as text: pandas would guess 7 for the category "007".
            names: set[str | int] = {*texts}
            if declared.get("header", 0) is None:
                names = {int(name) for name in texts if name.isdecimal()}  # as pandas names them
            if declared.get("engine") != "pyarrow":
                return {"dtype": dict.fromkeys(names, "str"), "index_col": False}
            if names != texts:
                raise UserError(
                    "The 'options' of a source must not combine engine pyarrow with header null.",
                    why="It guesses the types of columns without names: 007 would become 7.",
                    fix="Use engine c, which is the default.",
                )
            return {"dtype": dict.fromkeys(names, "str")}
        case "jsonl":
            # JSON has its own types. pandas would guess 7 for "007", also in keys, and its fast
            # parser rounds.
            return {"lines": True, "dtype": False, "convert_axes": False, "precise_float": True}
        case "parquet":
            return {"partitioning": None}


def _csv(path: Path, rows: int | None, options: dict[str, Any], _: set[str]) -> Iterator[Any]:
    if rows is None or options.keys() & _WHOLE or options.get("engine") == "pyarrow":
        yield pd.read_csv(path, **options)
        return
    with pd.read_csv(path, chunksize=rows, **options) as reader:
        yield from reader


def _jsonl(path: Path, rows: int | None, options: dict[str, Any], _: set[str]) -> Iterator[Any]:
    if rows is None or options.keys() & _WHOLE or not options["lines"]:
        yield pd.read_json(path, **options)
        return
    with pd.read_json(path, chunksize=rows, **options) as reader:
        yield from reader


def _parquet(
    path: Path, rows: int | None, options: dict[str, Any], texts: set[str]
) -> Iterator[Any]:
    if rows is None or options.keys() != {"partitioning"}:
        yield _frame(pq.read_table(path, **options), texts)
        return
    # With pre-buffering, the bytes of the whole file would stay in memory.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        empty = True
        most = max(1, CELLS // len(file.schema_arrow.names))  # counts undeclared columns too
        for batch in file.iter_batches(batch_size=min(rows, most)):
            empty = False
            yield _frame(pa.Table.from_batches([batch]), texts)
            pa.default_memory_pool().release_unused()
        if empty:
            yield _frame(file.schema_arrow.empty_table(), texts)


def _frame(table: Any, texts: set[str]) -> Any:
    """Convert integers in text columns to text first: in pieces with a null, pandas would make them
    doubles, which hold only 53 bits.
    """
    for index, field in enumerate(table.schema):
        if field.name in texts and pa.types.is_integer(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    return table.to_pandas(ignore_metadata=True, split_blocks=True, self_destruct=True)


_BAD_OPTIONS = (TypeError, LookupError, ImportError, pd.errors.ParserWarning)
"""What pandas' readers raise for options that are unknown or need a missing package."""
_WHOLE = frozenset({"chunksize", "iterator", "skipfooter", "nrows"})
"""Options of pandas' readers that exclude reading in pieces."""
_READERS: dict[Format, Callable[[Path, int | None, dict[str, Any], set[str]], Iterator[Any]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
