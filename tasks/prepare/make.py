"""Sources to snapshot: fetched, read, prepared, validated, split, written; or found made."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from tasks import store
from tasks.errors import UserError
from tasks.pipeline.schema import Pipeline
from tasks.prepare import function, split, statistics
from tasks.prepare import table as tables
from tasks.prepare import units as hashing
from tasks.prepare.read import format_of, read
from tasks.prepare.snapshot import (
    FORMAT,
    UNIT,
    Dropped,
    Manifest,
    SourceRecord,
    Units,
    find_manifest,
    manifest_uri,
    now,
    read_manifest,
    write_manifest,
    write_part,
)
from tasks.prepare.sources import Fetched, fetch

log = logging.getLogger(__name__)

EXAMPLES = 5
"""Bad values named in the log and in an error."""
REPORTED = 100_000
"""Lines of a report; a table that is all bad needs no more."""


def made(pipeline: Pipeline) -> Manifest:
    """The snapshot of the sources as they are now, made unless it is there."""
    for source in pipeline.data.sources:
        format_of(source)  # before anything is fetched
    with tempfile.TemporaryDirectory(prefix="mlops-prepare-") as folder:
        fetched = [
            fetch(source, Path(folder) / str(number))
            for number, source in enumerate(pipeline.data.sources)
        ]
        address = address_of(pipeline, fetched)
        uri = manifest_uri(pipeline.name, address)
        found = find_manifest(uri)
        if found:
            log.info("the snapshot is there: %s", uri)
            return found
        raw = _one_table(pipeline, fetched)
    table, dropped = _clean(pipeline, raw)
    return _write(pipeline, table, dropped, _records(fetched), address)


def chosen(pipeline: Pipeline, uri: str) -> Manifest:
    """An older snapshot, to run on again.

    Raises:
        UserError: it is not there, or not of this pipeline, or of other columns.
    """
    manifest = read_manifest(uri)
    if manifest.name != pipeline.name:
        raise UserError(
            f"The 'snapshot' must be one of {pipeline.name}. Got one of {manifest.name} instead."
        )
    data = pipeline.data
    differing = [
        name
        for name in sorted({*manifest.columns, *data.columns})
        if manifest.columns.get(name) is None
        or data.columns.get(name) is None
        or manifest.columns[name].type != data.columns[name].type
    ]
    then, today = (manifest.target, manifest.task), (data.target, data.task)
    if differing or then != today or set(manifest.features) != set(pipeline.feature_names):
        raise UserError(
            f"The snapshot {uri} does not fit the pipeline as it is now.",
            why=f"Columns that differ: {', '.join(differing)}."
            if differing
            else f"Target and task were {then} and are {today}, or the features changed.",
            fix="Use the pipeline file of that time, or a newer snapshot.",
        )
    return manifest


def address_of(pipeline: Pipeline, fetched: list[Fetched]) -> str:
    """Digest of what decides the rows; where a file came from does not, what it holds does."""
    data = pipeline.data
    body = {
        "format": FORMAT,
        "sources": [
            record.model_dump(mode="json", exclude={"uri", "files"}) for record in _records(fetched)
        ],
        "data": data.model_dump(mode="json", exclude={"sources"}),
        "split": pipeline.split.model_dump(mode="json"),
        "function": function.digest(data.prepare) if data.prepare else None,
    }
    return store.digest(json.dumps(body).encode())


def _records(fetched: list[Fetched]) -> tuple[SourceRecord, ...]:
    return tuple(
        SourceRecord(
            uri=entry.source.uri,
            format=format_of(entry.source),
            options=entry.source.options,
            constants=entry.source.constants,
            files=tuple(file.uri for file in entry.files),
            sha256=tuple(file.sha256 for file in entry.files),
        )
        for entry in fetched
    )


def _one_table(pipeline: Pipeline, fetched: list[Fetched]) -> pd.DataFrame:
    data = pipeline.data
    read_tables = []
    for entry in fetched:
        read_tables.append(read(entry, data))
        log.info("%s: %d rows", entry.source.uri, len(read_tables[-1]))
        if not data.prepare:
            tables.check_columns([str(c) for c in read_tables[-1].columns], data, entry.source.uri)
    if not data.prepare:
        return read_tables[0] if len(fetched) == 1 else pd.concat(read_tables, ignore_index=True)
    table = function.apply(data.prepare, read_tables)
    tables.check_columns([str(c) for c in table.columns], data, f"What {data.prepare} returned")
    return table


def _clean(pipeline: Pipeline, raw: pd.DataFrame) -> tuple[pd.DataFrame, Dropped]:
    """The typed table without its bad rows; they are rejected, or reported and dropped."""
    data = pipeline.data
    table, failures = tables.validate(raw, data, {pipeline.split.column})
    if failures.empty:
        return tables.finished(table, data), Dropped(rows=0, report=None)
    report = _report(pipeline.name, failures)
    bad = failures["row"].unique() - 1
    rules = failures.groupby(["column", "rule"], sort=False).size()
    what = f"{len(bad)} of {len(table)} rows break the rules of the table."
    why = "\n".join(
        [f"{' '.join(rule)}: {count} rows" for rule, count in zip(rules.index, rules, strict=True)]
        + [
            f"e.g. row {line.row}: {line.column} is {line.value}"
            for line in failures.head(EXAMPLES).itertuples()
        ]
    )
    if data.bad_rows == "reject":
        raise UserError(
            what,
            why=why,
            fix=f"All of them: {report}\n"
            "Correct the source, or the rules in data.columns, or set data.bad_rows to drop.",
        )
    log.warning("%s They are dropped; all of them: %s\n%s", what, report, why)
    kept = table[~table.index.isin(bad)].reset_index(drop=True)
    return tables.finished(kept, data), Dropped(rows=len(bad), report=report)


def _report(name: str, failures: tables.Failures) -> str:
    body = failures.head(REPORTED).to_csv(index=False, lineterminator="\n").encode()
    uri = store.data_uri(f"reports/{name}/bad-rows-{store.digest(body)[:16]}.csv")
    store.put_bytes(uri, body)
    return uri


def _write(
    pipeline: Pipeline,
    table: pd.DataFrame,
    dropped: Dropped,
    sources: tuple[SourceRecord, ...],
    address: str,
) -> Manifest:
    data, groups = pipeline.data, tuple(sorted(pipeline.split.groups))
    unit = Units(
        kind="groups" if groups else "row",
        columns=groups or tuple(sorted(pipeline.feature_names)),
    )
    table[UNIT] = units = hashing.hashes(table, unit.columns)
    side = split.sides(table, units, pipeline.split)
    split.check(pipeline, table, units, side)
    uri = manifest_uri(pipeline.name, address)
    parts, files = {}, {}
    for index, part in enumerate(split.PARTS):
        rows = table[side == index]
        if len(rows):
            parts[part] = f"{uri.removesuffix('manifest.json')}{part}.parquet"
            files[part] = write_part(parts[part], rows, data)
            log.info("%s: %d rows, %d units", part, files[part].rows, files[part].units)
    manifest = Manifest(
        name=pipeline.name,
        address=address,
        uri=uri,
        created_at=now(),
        target=data.target,
        task=data.task,
        columns=data.columns,
        features=pipeline.feature_names,
        units=unit,
        split=pipeline.split,
        parts=parts,
        files=files,
        statistics=statistics.describe(table.loc[np.equal(side, 0), list(data.columns)]),
        sources=sources,
        function=function.digest(data.prepare) if data.prepare else None,
        dropped=dropped,
    )
    write_manifest(manifest)
    log.info("wrote the snapshot %s", uri)
    return manifest
