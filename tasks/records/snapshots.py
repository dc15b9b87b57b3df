"""A snapshot: the Parquet parts of a table, and the manifest, which is written last."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.base.errors import UserError
from tasks.base.files import sha256
from tasks.clients import store
from tasks.data.statistics import Statistics
from tasks.pipeline.metrics import Task
from tasks.pipeline.schema import Column, Data, Pipeline, Scalar, Split

UNIT = "__unit__"
"""Column of the parts: the hash of the row's unit, without the seed, to compare snapshots by."""
ROW_GROUP = 2**20
"""Rows per row group of a part's file."""
FORMAT = 3
"""Incremented when the same inputs would produce other rows or another manifest."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Frozen):
    """One Parquet file, its rows in the order of the sources, or of method random's shuffle."""

    rows: int
    units: int
    sha256: str


class Units(_Frozen):
    """Defines a unit, the rows that stay in one part: those with equal values in `columns`."""

    kind: Literal["groups", "row"]
    columns: tuple[str, ...]


class SourceRecord(_Frozen):
    """A source as it was read; of a connection, only the name is kept."""

    uri: str
    connection: str | None = None
    query: str | None = None
    format: str
    options: dict[str, Scalar | None]
    constants: dict[str, Scalar]
    files: tuple[str, ...]
    """URIs of the files, in order."""
    sha256: tuple[str, ...]
    """Their digests, under which the store keeps them in `sources/`."""


class Dropped(_Frozen):
    """Rows that broke a rule and were left out."""

    rows: int
    report: str | None
    """URI of the report, a CSV file."""


class Manifest(_Frozen):
    """What a snapshot contains, and what it was made from."""

    format: int = FORMAT
    name: str
    address: str
    """Digest of everything that decides the rows; equal for equal inputs."""
    uri: str
    """Where this manifest is stored."""
    created_at: datetime
    """When it was first made; not part of the address."""
    target: str
    task: Task
    columns: dict[str, Column]
    features: tuple[str, ...]
    units: Units
    split: Split
    parts: dict[str, str]
    """URIs of `train`, `validation` and `test`; a part without rows is left out."""
    files: dict[str, Part]
    """The contents of each part."""
    statistics: dict[str, Statistics]
    sources: tuple[SourceRecord, ...]
    function: str | None
    """Digest of the user's preparation function."""
    dropped: Dropped
    unseen: dict[str, dict[str, int]] = {}
    """For each part but train: column -> rows with a category that does not occur in train."""


def manifest_uri(name: str, address: str) -> str:
    """URI of a snapshot's manifest; the parts are next to it."""
    return store.data_uri(f"snapshots/{name}/{address[:16]}/manifest.json")


def read_manifest(uri: str) -> Manifest:
    """The manifest at `uri`.

    Raises:
        UserError: There is no manifest at `uri`.
    """
    try:
        return Manifest.model_validate_json(store.get_bytes(uri))
    except (store.MissingObjectError, ValueError) as err:
        raise UserError(
            f"The 'snapshot' must be the URI of a snapshot's manifest. Got {uri!r} instead.",
            why=str(err),
            fix="Copy it from the tag 'snapshot' of an earlier run.",
        ) from err


def find_manifest(uri: str) -> Manifest | None:
    """The manifest at `uri`, if the snapshot is complete."""
    return read_manifest(uri) if store.exists(uri) else None


def matching_manifest(pipeline: Pipeline, uri: str) -> Manifest:
    """The manifest of an older snapshot that the pipeline can still use.

    Raises:
        UserError: It does not exist, or is of another pipeline or of other columns.
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
    old, new = (manifest.target, manifest.task), (data.target, data.task)
    if differing or old != new or set(manifest.features) != set(pipeline.feature_names):
        raise UserError(
            f"The snapshot {uri} does not match the current pipeline file.",
            why=f"Columns that differ: {', '.join(differing)}."
            if differing
            else f"Target and task were {old} and are {new}, or the features changed.",
            fix="Use the pipeline file of that time, or a newer snapshot.",
        )
    return manifest


def write_manifest(manifest: Manifest) -> None:
    """Complete a snapshot whose parts are written."""
    store.put_bytes(manifest.uri, manifest.model_dump_json(indent=2).encode())


def read_part(manifest: Manifest, part: str) -> pd.DataFrame:
    """The rows of a part, with the pipeline's columns and `UNIT`; empty without such a part."""
    uri = manifest.parts.get(part)
    if uri is None:
        schema = _schema(manifest.columns, manifest.target, manifest.task)
        return pd.DataFrame(schema.empty_table().to_pandas())
    with tempfile.TemporaryDirectory(prefix="mlops-snapshot-") as folder:
        path = Path(folder) / "part.parquet"
        store.download(uri, path)
        if sha256(path) != manifest.files[part].sha256:
            raise UserError(
                f"{uri} is not the file that its manifest describes.",
                fix=f"Delete {manifest.uri} and prepare again.",
            )
        rows = pq.read_table(path, partitioning=None)
        return pd.DataFrame(rows.to_pandas(split_blocks=True, self_destruct=True))


def write_part(
    uri: str, table: pd.DataFrame, data: Data, rows: NDArray[np.int64] | None = None
) -> Part:
    """Write a table with the pipeline's columns and `UNIT`, or some of its rows, to one file."""
    rows = np.arange(len(table)) if rows is None else rows
    schema = _schema(data.columns, data.target, data.task)
    with tempfile.TemporaryDirectory(prefix="mlops-snapshot-") as folder:
        path = Path(folder) / "part.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as file:
            # One row group at a time: a whole part would be in memory twice.
            for first in range(0, len(rows), ROW_GROUP):
                group_rows = table.iloc[rows[first : first + ROW_GROUP]]
                group = pa.Table.from_pandas(group_rows, schema=schema, preserve_index=False)
                file.write_table(group.replace_schema_metadata(None), ROW_GROUP)
        store.upload(path, uri)
        units = int(table[UNIT].iloc[rows].nunique())
        return Part(rows=len(rows), units=units, sha256=sha256(path))


def _schema(columns: dict[str, Column], target: str, task: Task) -> Any:
    types = {
        name: pa.string()
        if column.type in ("category", "string")
        else pa.timestamp("us")
        if column.type == "datetime"
        else pa.int64()
        if name == target and task != "regression"
        else pa.float64()
        for name, column in columns.items()
    }
    return pa.schema([*types.items(), (UNIT, pa.int64())])
