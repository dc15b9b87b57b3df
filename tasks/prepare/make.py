"""From sources to a snapshot: made, or found if the same inputs made it before."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.base.settings import airflow_connection
from tasks.clients import store
from tasks.clients.connections import Lookup
from tasks.data import split, statistics, units
from tasks.data.reading import source_format
from tasks.data.sources import Fetched, fetch, fetch_from_publisher
from tasks.pipeline.schema import Pipeline
from tasks.prepare import function, unseen
from tasks.prepare.rows import clean, fetch_all, gather
from tasks.records.snapshots import (
    FORMAT,
    UNIT,
    Dropped,
    Manifest,
    SourceRecord,
    Units,
    find_manifest,
    manifest_uri,
    write_manifest,
    write_part,
)

log = logging.getLogger(__name__)

ORIGIN = {"uri", "connection", "query", "files"}
"""Fields of a source's record that say where its rows came from, not what they are."""


def make_snapshot(pipeline: Pipeline, lookup: Lookup = airflow_connection) -> Manifest:
    """The snapshot of the sources as they are today, made unless it exists."""
    with tempfile.TemporaryDirectory(prefix="mlops-prepare-") as folder:
        fetched = fetch_all(pipeline, Path(folder), lookup, fetch)
        address = snapshot_address(pipeline, fetched)
        uri = manifest_uri(pipeline.name, address)
        manifest = find_manifest(uri)
        if manifest:
            log.info("The snapshot exists: %s", uri)
            return manifest
        gathering = gather(pipeline, fetched)
    table, dropped = clean(pipeline, gathering)
    return _write(pipeline, table, dropped, _records(fetched), address)


@dataclass(frozen=True)
class Rehearsal:
    """What the sources hold today."""

    rows: int
    """Good rows."""
    dropped: int
    """Bad rows, which would be dropped."""
    rules: list[str]
    """The broken rules, each with its count."""


def rehearse(pipeline: Pipeline, lookup: Lookup = airflow_connection) -> Rehearsal:
    """Check the sources as `make_snapshot` would, without storing anything.

    Raises:
        UserError: What `make_snapshot` would refuse.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-check-") as folder:
        fetched = fetch_all(pipeline, Path(folder), lookup, fetch_from_publisher)
        gathering = gather(pipeline, fetched)
    table, dropped = clean(pipeline, gathering, report=False)
    _sides(pipeline, table)
    return Rehearsal(len(table), dropped.rows, gathering.bad_rows.summary())


def snapshot_address(pipeline: Pipeline, fetched: list[Fetched]) -> str:
    """Digest of everything that decides the rows: the content of the files, not their origin."""
    data = pipeline.data
    body = {
        "format": FORMAT,
        "sources": [record.model_dump(mode="json", exclude=ORIGIN) for record in _records(fetched)],
        "data": data.model_dump(mode="json", exclude={"sources", "class_weights"}),
        "left_out": pipeline.left_out,
        "split": pipeline.split.model_dump(mode="json"),
        "function": function.digest(data.prepare) if data.prepare else None,
    }
    return store.digest(json.dumps(body).encode())


def _records(fetched: list[Fetched]) -> tuple[SourceRecord, ...]:
    return tuple(
        SourceRecord(
            uri=entry.source.uri,
            connection=entry.source.connection,
            query=entry.source.query,
            format=source_format(entry.source),
            options=entry.source.options,
            constants=entry.source.constants,
            files=tuple(file.uri for file in entry.files),
            sha256=tuple(file.sha256 for file in entry.files),
        )
        for entry in fetched
    )


def _unit(pipeline: Pipeline) -> Units:
    groups = tuple(sorted(pipeline.split.groups))
    return Units(
        kind="groups" if groups else "row",
        columns=groups or tuple(sorted(pipeline.feature_names)),
    )


def _sides(pipeline: Pipeline, table: pd.DataFrame) -> tuple[NDArray[np.int64], split.Sides]:
    """Each row's unit and its part, checked."""
    hashes = units.hashes(table, _unit(pipeline).columns)
    side = split.sides(table, hashes, pipeline.split, pipeline.data.target)
    split.check(pipeline, table, hashes, side)
    return hashes, side


def _write(
    pipeline: Pipeline,
    table: pd.DataFrame,
    dropped: Dropped,
    sources: tuple[SourceRecord, ...],
    address: str,
) -> Manifest:
    data = pipeline.data
    hashes, side = _sides(pipeline, table)
    table[UNIT] = hashes
    order = np.arange(len(table))
    if pipeline.split.method == "random":
        order = split.shuffled(table, hashes, pipeline.split, data.target)
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
        created_at=datetime.now(tz=UTC).replace(microsecond=0),
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
    log.info("Wrote the snapshot %s", uri)
    return manifest
