"""The rows of a pipeline's sources: fetched, typed, checked, without the bad ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.base.commands import typed
from tasks.base.errors import UserError
from tasks.clients import store
from tasks.clients.connections import Lookup
from tasks.data.checking import Failures, finish_table
from tasks.data.reading import pieces, read, source_format
from tasks.data.sources import Fetched
from tasks.pipeline.schema import Data, Pipeline, Source
from tasks.prepare import function
from tasks.prepare.gather import Gathering
from tasks.records.snapshots import Dropped

log = logging.getLogger(__name__)

EXAMPLES = 5
"""Bad values that the log and an error name."""
FIX = "Correct the source, or the rules in data.columns, or set data.bad_rows to drop."


def fetch_all(
    pipeline: Pipeline,
    folder: Path,
    lookup: Lookup,
    fetch: Callable[[Source, Path, Lookup], Fetched],
) -> list[Fetched]:
    """Fetch every source into its own folder."""
    for source in pipeline.data.sources:
        source_format(source)  # fails before anything is fetched
    return [
        fetch(source, folder / str(number), lookup)
        for number, source in enumerate(pipeline.data.sources)
    ]


def gather(pipeline: Pipeline, fetched: list[Fetched]) -> Gathering:
    """The rows of all sources, typed and checked, after the user's function if there is one."""
    data, gathering = pipeline.data, Gathering(pipeline)
    if not data.prepare:
        for source in fetched:
            count = gathering.add(pieces(source, data))
            log.info("%s: %d rows", source.source.uri, count)
    else:
        tables = []
        for source in fetched:
            tables.append(read(source, data))
            log.info("%s: %d rows", source.source.uri, len(tables[-1]))
        table = _booleans_as_doubles(function.apply(data.prepare, tables), data)
        gathering.add([(f"The table that {data.prepare} returned", table)])
    gathering.check()
    return gathering


def clean(
    pipeline: Pipeline, gathering: Gathering, *, report: bool = True
) -> tuple[pd.DataFrame, Dropped]:
    """The typed table without its bad rows; `report` stores and logs a list of these.

    Raises:
        UserError: There are bad rows, and the file does not allow dropping them.
    """
    data, bad_rows = pipeline.data, gathering.bad_rows
    if not bad_rows.rows:
        return finish_table(gathering.table(), data), Dropped(rows=0, report=None)
    numbers, report_uri, listing = bad_rows.numbers, None, ""
    if report:
        report_uri = _write_report(pipeline.name, bad_rows.report)
        listing = f"List them: {typed(f'cat {report_uri}')}\n"
    examples = [
        f"e.g. row {line.row}: {line.column} is {line.value}"
        for line in bad_rows.report.head(EXAMPLES).itertuples()
    ]
    what = f"{len(numbers)} of {gathering.rows} rows break the rules of the table."
    why = "\n".join(bad_rows.summary() + examples)
    if data.bad_rows == "reject":
        raise UserError(what, why=why, fix=f"{listing}{FIX}")
    if report:
        log.warning("%s They are dropped. %s%s", what, listing, why)
    table = finish_table(gathering.table(without=numbers), data)
    return table, Dropped(rows=len(numbers), report=report_uri)


def _booleans_as_doubles(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """In columns of type double: a function that compares means the result as a number.

    In a file, booleans in such a column mean that the publisher changed it.
    """
    doubles = {name for name, column in data.columns.items() if column.type == "double"}
    names = [name for name in table.columns if str(name) in doubles and _is_boolean(table[name])]
    return table.astype(dict.fromkeys(names, "boolean")).astype(dict.fromkeys(names, "float64"))


def _is_boolean(column: pd.Series[Any]) -> bool:
    """Also true for booleans next to nulls, whose dtype is object."""
    return pd.api.types.infer_dtype(column, skipna=True) == "boolean"


def _write_report(name: str, failures: Failures) -> str:
    body = failures.to_csv(index=False, lineterminator="\n").encode()
    uri = store.data_uri(f"reports/{name}/bad-rows-{store.digest(body)[:16]}.csv")
    store.put_bytes(uri, body)
    return uri
