"""Files as tables, as the pipeline file says how."""

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
from tasks.data.sources import Fetched, name_of
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
"""What pandas' readers raise at a file that is not what its name says, compressed ones too."""
CELLS = 2_000_000
"""Values of a table that are read at once, where its parts are looked at one by one."""


def format_of(source: Source) -> Format:
    """How to read a source: what the file says, or what the address ends in."""
    if source.format:
        return source.format
    if source.uri.startswith(("sklearn://", "postgresql://")):
        return "csv"
    name = name_of(source.uri).lower()
    for ending, kind in _ENDINGS.items():
        if name.endswith(ending):
            return kind
    raise UserError(
        f"The 'format' of source {source.uri} must be csv, parquet or jsonl. Got nothing instead.",
        why="The address ends in nothing that would tell.",
        fix="Add format to the source in the pipeline file.",
    )


def read(fetched: Fetched, data: Data) -> pd.DataFrame:
    """The table of one source: its files one below the other, its constants as columns."""
    source = fetched.source
    tables: list[pd.DataFrame] = []
    for file, path in zip(fetched.files, fetched.paths, strict=True):
        (table,) = _pieces(source, file.uri, path, data, None)
        if tables and set(table.columns) != set(tables[0].columns):
            odd = sorted(set(map(str, table.columns)) ^ set(map(str, tables[0].columns)))
            raise UserError(
                f"The files of {source.uri} do not have the same columns.",
                why=f"{file.uri} and {fetched.files[0].uri} differ in {', '.join(odd)}.",
                fix="Correct the files, or give each its own source.",
            )
        tables.append(table)
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def pieces(fetched: Fetched, data: Data) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of one source, in order, a piece at a time, each with the address of its file."""
    rows = max(1, CELLS // len(data.columns))
    for file, path in zip(fetched.files, fetched.paths, strict=True):
        for piece in _pieces(fetched.source, file.uri, path, data, rows):
            yield file.uri, piece


def _pieces(
    source: Source, uri: str, path: Path, data: Data, rows: int | None
) -> Iterator[pd.DataFrame]:
    """The table of one file, in pieces of so many rows, or in one."""
    kind = format_of(source)
    texts = {name for name, column in data.columns.items() if column.type in {*TEXT, "datetime"}}
    options = {
        **_defaults(kind, texts, source.options),
        **source.options,
        **(query.READ if source.query else {}),
    }
    found = _READERS[kind](path, rows, options, texts)
    first = True
    while True:
        try:
            with warnings.catch_warnings():
                # Rows longer than the header are cut with a warning; half a row is not the row.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                piece = next(found, None)
        except (*DAMAGED, *_ODD) as err:
            _check_separator(uri, path, options, kind)
            raise UserError(
                f"{uri} cannot be read as {kind}.",
                why=f"{type(err).__name__}: {err}",
                fix=_ENCODING
                if isinstance(err, UnicodeError)
                else "Look at the file, and at format and options of the source in the pipeline "
                "file.",
            ) from err
        if piece is None:
            if first:  # a compressed file of nothing has some bytes
                raise UserError(f"{uri} is empty.", fix="Ask its publisher, or leave it out.")
            return
        if not isinstance(piece, pd.DataFrame):
            raise UserError(
                f"The 'options' of source {source.uri} must give a table. "
                f"Got {type(piece).__name__} instead."
            )
        if first and len(piece.columns) == 1 < len(data.columns) - len(source.constants):
            _check_separator(uri, path, options, kind)
        first = False
        yield _with_constants(source, piece)


def _check_separator(uri: str, path: Path, options: dict[str, Any], kind: Format) -> None:
    """Raise an error of its own if the header of a CSV file was taken for one column."""
    if kind != "csv":
        return
    try:
        header = [str(name) for name in pd.read_csv(path, **(options | {"nrows": 0})).columns]
    except (*DAMAGED, *_ODD):
        return
    used = [sep for sep in (";", "\t", "|", ",") if len(header) == 1 and sep in header[0]]
    if used:
        raise UserError(
            f"{uri} cannot be read as csv.",
            why=f"All of its header is one column: {header[0]}.",
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
            f"Got {', '.join(clash)} instead, which the file has.",
        )
    return table.assign(**source.constants)


def _defaults(kind: Format, texts: set[str], given: dict[str, Any]) -> dict[str, Any]:
    """Options that the file may override."""
    match kind:
        case "csv":
            # Text columns are read as text: a guess would make 7 of the category "007".
            names: set[str | int] = {*texts}
            if given.get("header", 0) is None:
                names = {int(name) for name in texts if name.isdecimal()}  # as pandas names them
            if given.get("engine") != "pyarrow":
                return {"dtype": dict.fromkeys(names, "str"), "index_col": False}
            if names != texts:
                raise UserError(
                    "The 'options' of a source must not have engine pyarrow beside header null.",
                    why="It guesses the types of columns without names, and 007 would be 7.",
                    fix="Take engine c, which is the default.",
                )
            return {"dtype": dict.fromkeys(names, "str")}
        case "jsonl":
            # JSON has types of its own: pandas' guess makes 7 of "007", of keys too; its fast
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
    # Buffered ahead, the bytes of the whole file would stay in memory.
    with pq.ParquetFile(path, pre_buffer=False) as file:
        empty = True
        most = max(1, CELLS // len(file.schema_arrow.names))  # of columns that nobody declared too
        for batch in file.iter_batches(batch_size=min(rows, most)):
            empty = False
            yield _frame(pa.Table.from_batches([batch]), texts)
            pa.default_memory_pool().release_unused()
        if empty:
            yield _frame(file.schema_arrow.empty_table(), texts)


def _frame(table: Any, texts: set[str]) -> Any:
    """Whole numbers that are names become text here: pandas makes doubles of those beside a null,
    which hold 53 bits, and only in the pieces that have one.
    """
    for place, field in enumerate(table.schema):
        if field.name in texts and pa.types.is_integer(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    return table.to_pandas(ignore_metadata=True, split_blocks=True, self_destruct=True)


_ODD = (TypeError, LookupError, ImportError, pd.errors.ParserWarning)
"""What they raise at options that they do not know, or know and cannot do without a package."""
_WHOLE = frozenset({"chunksize", "iterator", "skipfooter", "nrows"})
"""Options of pandas' readers that do not go with reading in pieces."""
_READERS: dict[Format, Callable[[Path, int | None, dict[str, Any], set[str]], Iterator[Any]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
