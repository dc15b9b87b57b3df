"""Sources to snapshot: fetched, read, prepared, validated, split, written; or found made."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.base.commands import typed
from tasks.base.errors import UserError
from tasks.base.settings import airflow_connection
from tasks.clients import store
from tasks.clients.connections import Lookup
from tasks.data import split, statistics
from tasks.data import units as hashing
from tasks.data.checking import Failures, finished
from tasks.data.reading import format_of, pieces, read
from tasks.data.sources import Fetched, fetch, from_publisher
from tasks.pipeline.schema import Data, Pipeline, Source
from tasks.prepare import function, unseen
from tasks.prepare.gather import Gathering
from tasks.records.snapshots import (
    FORMAT,
    UNIT,
    Dropped,
    Manifest,
    SourceRecord,
    Units,
    current_time,
    find_manifest,
    manifest_uri,
    write_manifest,
    write_part,
)

log = logging.getLogger(__name__)

WHENCE = {"uri", "connection", "query", "files"}
"""Parts of a source's record that say where it came from, not what it held."""
EXAMPLES = 5
"""Bad values named in the log and in an error."""
WAY_OUT = "Correct the source, or the rules in data.columns, or set data.bad_rows to drop."


def made(pipeline: Pipeline, lookup: Lookup = airflow_connection) -> Manifest:
    """The snapshot of the sources as they are now, made unless it is there."""
    with tempfile.TemporaryDirectory(prefix="mlops-prepare-") as folder:
        fetched = _brought(pipeline, Path(folder), lookup, fetch)
        address = address_of(pipeline, fetched)
        uri = manifest_uri(pipeline.name, address)
        found = find_manifest(uri)
        if found:
            log.info("the snapshot is there: %s", uri)
            return found
        gathering = _gathered(pipeline, fetched)
    table, dropped = _clean(pipeline, gathering)
    return _write(pipeline, table, dropped, _records(fetched), address)


@dataclass(frozen=True)
class Rehearsed:
    """What the sources as they are now hold."""

    rows: int
    """The good ones."""
    dropped: int
    """Bad rows, which would be left out."""
    rules: list[str]
    """The rules that those break, each with its count."""


def rehearsed(pipeline: Pipeline, lookup: Lookup = airflow_connection) -> Rehearsed:
    """How many rows of the sources as they are now are good, and which would be dropped.

    What `made` would find wrong with the rows is found, and nothing is kept.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-check-") as folder:
        gathering = _gathered(pipeline, _brought(pipeline, Path(folder), lookup, from_publisher))
    bad = gathering.failed.bad
    if len(bad) and pipeline.data.bad_rows == "reject":
        what, why = _broken(gathering)
        raise UserError(what, why=why, fix=WAY_OUT)
    table = finished(gathering.table(without=bad if len(bad) else None), pipeline.data)
    _sides(pipeline, table)
    return Rehearsed(len(table), len(bad), gathering.failed.summary())


def address_of(pipeline: Pipeline, fetched: list[Fetched]) -> str:
    """Digest of what decides the rows; where a file came from does not, what it holds does."""
    data = pipeline.data
    body = {
        "format": FORMAT,
        "sources": [record.model_dump(mode="json", exclude=WHENCE) for record in _records(fetched)],
        "data": data.model_dump(mode="json", exclude={"sources", "class_weights"}),
        "left_out": pipeline.left_out,
        "split": pipeline.split.model_dump(mode="json"),
        "function": function.digest(data.prepare) if data.prepare else None,
    }
    return store.digest(json.dumps(body).encode())


def _brought(
    pipeline: Pipeline,
    folder: Path,
    lookup: Lookup,
    bring: Callable[[Source, Path, Lookup], Fetched],
) -> list[Fetched]:
    for source in pipeline.data.sources:
        format_of(source)  # before anything is fetched
    return [
        bring(source, folder / str(number), lookup)
        for number, source in enumerate(pipeline.data.sources)
    ]


def _records(fetched: list[Fetched]) -> tuple[SourceRecord, ...]:
    return tuple(
        SourceRecord(
            uri=entry.source.uri,
            connection=entry.source.connection,
            query=entry.source.query,
            format=format_of(entry.source),
            options=entry.source.options,
            constants=entry.source.constants,
            files=tuple(file.uri for file in entry.files),
            sha256=tuple(file.sha256 for file in entry.files),
        )
        for entry in fetched
    )


def _gathered(pipeline: Pipeline, fetched: list[Fetched]) -> Gathering:
    """The rows of all sources, typed and checked, through the user's function if there is one."""
    data, gathering = pipeline.data, Gathering(pipeline)
    if not data.prepare:
        for entry in fetched:
            rows = gathering.add(pieces(entry, data))
            log.info("%s: %d rows", entry.source.uri, rows)
    else:
        tables = []
        for entry in fetched:
            tables.append(read(entry, data))
            log.info("%s: %d rows", entry.source.uri, len(tables[-1]))
        where = f"What {data.prepare} returned"
        gathering.add([(where, _measured(function.apply(data.prepare, tables), data))])
    gathering.check()
    return gathering


def _measured(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """The table with numbers for booleans in columns of doubles: a function means what it compares,
    where a publisher's column has changed.
    """
    names = [
        name for name in table.columns if _is_double(data, str(name)) and _is_boolean(table[name])
    ]
    return table.astype(dict.fromkeys(names, "boolean")).astype(dict.fromkeys(names, "float64"))


def _is_boolean(column: pd.Series[Any]) -> bool:
    """Beside nulls booleans are objects."""
    return pd.api.types.infer_dtype(column, skipna=True) == "boolean"


def _is_double(data: Data, name: str) -> bool:
    return name in data.columns and data.columns[name].type == "double"


def _clean(pipeline: Pipeline, gathering: Gathering) -> tuple[pd.DataFrame, Dropped]:
    """The typed table without its bad rows; they are rejected, or reported and dropped."""
    data, failed = pipeline.data, gathering.failed
    if not failed.rows:
        return finished(gathering.table(), data), Dropped(rows=0, report=None)
    bad, report = failed.bad, _report(pipeline.name, failed.report)
    what, why = _broken(gathering)
    if data.bad_rows == "reject":
        raise UserError(what, why=why, fix=f"A list: {typed(f'cat {report}')}\n{WAY_OUT}")
    log.warning("%s They are dropped; a list: %s\n%s", what, typed(f"cat {report}"), why)
    return finished(gathering.table(without=bad), data), Dropped(rows=len(bad), report=report)


def _broken(gathering: Gathering) -> tuple[str, str]:
    """How many rows break the table's rules, in words, and which rules with examples."""
    failed = gathering.failed
    examples = [
        f"e.g. row {line.row}: {line.column} is {line.value}"
        for line in failed.report.head(EXAMPLES).itertuples()
    ]
    what = f"{len(failed.bad)} of {gathering.rows} rows break the rules of the table."
    return what, "\n".join(failed.summary() + examples)


def _report(name: str, failures: Failures) -> str:
    body = failures.to_csv(index=False, lineterminator="\n").encode()
    uri = store.data_uri(f"reports/{name}/bad-rows-{store.digest(body)[:16]}.csv")
    store.put_bytes(uri, body)
    return uri


def _unit(pipeline: Pipeline) -> Units:
    groups = tuple(sorted(pipeline.split.groups))
    return Units(
        kind="groups" if groups else "row",
        columns=groups or tuple(sorted(pipeline.feature_names)),
    )


def _sides(pipeline: Pipeline, table: pd.DataFrame) -> tuple[NDArray[np.int64], split.Sides]:
    """Each row's unit and its part, checked."""
    units = hashing.hashes(table, _unit(pipeline).columns)
    side = split.sides(table, units, pipeline.split, pipeline.data.target)
    split.check(pipeline, table, units, side)
    return units, side


def _write(
    pipeline: Pipeline,
    table: pd.DataFrame,
    dropped: Dropped,
    sources: tuple[SourceRecord, ...],
    address: str,
) -> Manifest:
    data = pipeline.data
    units, side = _sides(pipeline, table)
    table[UNIT] = units
    order = np.arange(len(table))
    if pipeline.split.method == "random":
        order = split.shuffled(table, units, pipeline.split, data.target)
    rows = {part: order[side[order] == index] for index, part in enumerate(split.PARTS)}
    uri = manifest_uri(pipeline.name, address)
    parts, files = {}, {}
    for part in split.PARTS:
        if len(rows[part]):
            parts[part] = f"{uri.removesuffix('manifest.json')}{part}.parquet"
            files[part] = write_part(parts[part], table, data, rows[part])
            log.info("%s: %d rows, %d units", part, files[part].rows, files[part].units)
    manifest = Manifest(
        name=pipeline.name,
        address=address,
        uri=uri,
        created_at=current_time(),
        target=data.target,
        task=data.task,
        columns=data.columns,
        features=pipeline.feature_names,
        units=_unit(pipeline),
        split=pipeline.split,
        parts=parts,
        files=files,
        statistics=statistics.describe(table[list(data.columns)], rows["train"]),
        sources=sources,
        function=function.digest(data.prepare) if data.prepare else None,
        dropped=dropped,
        unseen=unseen.count(pipeline, table, side),
    )
    write_manifest(manifest)
    log.info("wrote the snapshot %s", uri)
    return manifest
