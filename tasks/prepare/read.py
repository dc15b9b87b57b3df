"""Files as tables, as the pipeline file says how."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow.parquet as pq

from tasks.errors import UserError
from tasks.pipeline.schema import Data, Source
from tasks.prepare.sources import Fetched
from tasks.prepare.table import TEXT

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


def format_of(source: Source) -> Format:
    """How to read a source: what the file says, or what the address ends in."""
    if source.format:
        return source.format
    if source.uri.startswith("sklearn://"):
        return "csv"
    name = source.uri.partition("?")[0].lower()
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
    texts = {name for name, column in data.columns.items() if column.type in {*TEXT, "datetime"}}
    tables: list[pd.DataFrame] = []
    for file, path in zip(fetched.files, fetched.paths, strict=True):
        table = _read_file(source, file.uri, path, texts)
        if tables and set(table.columns) != set(tables[0].columns):
            odd = sorted(set(map(str, table.columns)) ^ set(map(str, tables[0].columns)))
            raise UserError(
                f"The files of {source.uri} do not have the same columns.",
                why=f"{file.uri} and {fetched.files[0].uri} differ in {', '.join(odd)}.",
                fix="Correct the files, or give each its own source.",
            )
        tables.append(table)
    table = tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)
    clash = sorted(set(source.constants) & set(table.columns))
    if clash:
        raise UserError(
            f"The 'constants' of source {source.uri} must be new columns. "
            f"Got {', '.join(clash)} instead, which the file has.",
        )
    return table.assign(**source.constants)


def _read_file(source: Source, uri: str, path: Path, texts: set[str]) -> pd.DataFrame:
    kind = format_of(source)
    try:
        with warnings.catch_warnings():
            # Rows longer than the header are cut with a warning; half a row is not the row.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = _READERS[kind](path, **{**_defaults(kind, texts), **source.options})
    except (ValueError, TypeError, LookupError, OSError, pd.errors.ParserWarning) as err:
        raise UserError(
            f"{uri} cannot be read as {kind}.",
            why=f"{type(err).__name__}: {err}",
            fix="Look at the file, and at format and options of the source in the pipeline file.",
        ) from err
    if not isinstance(table, pd.DataFrame):
        raise UserError(
            f"The 'options' of source {source.uri} must give a table. "
            f"Got {type(table).__name__} instead."
        )
    return table


def _defaults(kind: Format, texts: set[str]) -> dict[str, Any]:
    """Options that the file may override."""
    match kind:
        case "csv":
            # Text columns are read as text: a guess would make 7 of the category "007".
            return {"dtype": dict.fromkeys(texts, "str"), "index_col": False}
        case "jsonl":
            # JSON has types of its own: pandas' guess makes 7 of "007", its fast parser rounds.
            return {"lines": True, "dtype": False, "precise_float": True}
        case "parquet":
            return {"partitioning": None}


def _parquet(path: Path, **options: Any) -> Any:
    return pq.read_table(path, **options).to_pandas(
        ignore_metadata=True, split_blocks=True, self_destruct=True
    )


_READERS: dict[Format, Callable[..., Any]] = {
    "csv": pd.read_csv,
    "jsonl": pd.read_json,
    "parquet": _parquet,
}
