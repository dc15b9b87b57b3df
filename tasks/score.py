"""Uses a logged model without its endpoint: on the rows of a file, or on a snapshot's part."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from tasks.base.errors import UserError
from tasks.base.problems import did_you_mean, listed
from tasks.clients import tracking
from tasks.data import input_rows, json_values
from tasks.data.reading import DAMAGED, Format, source_format
from tasks.data.split import PARTS
from tasks.models import flavors, logged, metrics
from tasks.pipeline.load import load
from tasks.pipeline.schema import Data, Pipeline, Source
from tasks.records import registry
from tasks.records.snapshots import Manifest, matching_manifest, read_manifest, read_part

PREDICTION = "prediction"
"""The column that `score` adds."""
PIECE = 100_000
"""Rows written at a time as JSON lines."""


@dataclass(frozen=True)
class Scored:
    """What `score` wrote."""

    model_uri: str
    rows: int
    target: Path


@dataclass(frozen=True)
class Measured:
    """A model's metrics on a part of a snapshot."""

    model_uri: str
    snapshot_uri: str
    figures: dict[str, float]
    """By metric and part, named as on a parent run: `test_rmse`."""


def score(name: str, source: Path, target: Path, model: str = tracking.CHAMPION) -> Scored:
    """Write the rows of a file with the model's prediction for each: all of them or none.

    Args:
        name: The pipeline.
        source: CSV, Parquet or JSON lines, by its ending. CSV is read with the options of the
            pipeline's own CSV source. Columns that are not features are kept.
        target: The same formats; CSV is written with commas, in UTF-8.
        model: A version's number or alias, or the id of a run that logged a model.

    Raises:
        UserError: There is no such model or file, or its rows cannot be scored.
    """
    pipeline, model_uri = load(name), logged.find_model_uri(name, model)
    kind = _format(target)
    written, rows = _read(source, pipeline.data)
    if PREDICTION in rows:
        raise UserError(f"{source} already has a column {PREDICTION!r}.", fix="Rename it.")
    features = _features(pipeline, rows, _columns(pipeline, model_uri), source)
    try:
        predicted = np.asarray(flavors.load(model_uri).predict(features))
    except (MlflowException, ValueError, TypeError) as err:
        raise UserError(f"{model_uri} cannot predict the rows of {source}.", why=str(err)) from err
    temporary = target.with_name(f".{target.name}")
    try:
        table = written.assign(**{PREDICTION: predicted})
        _write(table, temporary, kind, "gzip" if target.suffix == ".gz" else None)
        temporary.replace(target)
    except OSError as err:
        raise UserError(f"{target} cannot be written.", why=err.strerror or str(err)) from err
    return Scored(model_uri, len(rows), target)


def measure(
    name: str,
    model: str = tracking.CHAMPION,
    part: str = "test",
    snapshot: str | None = None,
    *,
    make_snapshot: Callable[[Pipeline], Manifest],
) -> Measured:
    """Every metric of the task for a model on a part of a snapshot.

    Args:
        name: The pipeline.
        model: A version's number or alias, or the id of a run that logged a model.
        part: `train`, `validation` or `test`.
        snapshot: URI of a manifest. The default is the snapshot that the version was trained on,
            or for a run that is not a version, a snapshot of today's data.
        make_snapshot: Makes a snapshot of today's data.

    Raises:
        UserError: There is no such model, part or snapshot, or the model cannot predict it.
    """
    if part not in PARTS:
        raise UserError(f"The 'part' must be one of {', '.join(PARTS)}. Got {part!r} instead.")
    pipeline, model_uri = load(name), logged.find_model_uri(name, model)
    if snapshot:
        manifest = matching_manifest(pipeline, snapshot)
    else:
        manifest = _trained_on(pipeline, model_uri) or make_snapshot(pipeline)
    rows = read_part(manifest, part)
    if rows.empty:
        raise UserError(f"The part {part!r} of the snapshot {manifest.uri} has no rows.")
    columns, data = _columns(pipeline, model_uri), pipeline.data
    try:
        scores = metrics.scores(
            data.task, flavors.load(model_uri), rows[columns], rows[data.target]
        )
    except (MlflowException, ValueError, TypeError, AttributeError) as err:
        raise UserError(
            f"{model_uri} cannot predict the {part} rows of {name}.", why=str(err)
        ) from err
    figures = {f"{part}_{metric}": value for metric, value in scores.items()}
    return Measured(model_uri, manifest.uri, figures)


def _trained_on(pipeline: Pipeline, model_uri: str) -> Manifest | None:
    number = model_uri.rpartition("/")[2]
    entry = registry.version(pipeline.name, int(number)) if number.isdigit() else None
    snapshot_uri = entry.tags.get(tracking.SNAPSHOT) if entry is not None else None
    return read_manifest(snapshot_uri) if snapshot_uri else None


def _columns(pipeline: Pipeline, model_uri: str) -> list[str]:
    """The columns that the model takes, all of them features of the pipeline."""
    columns = list(logged.input_columns(model_uri) or pipeline.feature_names)
    unknown = [name for name in columns if name not in pipeline.feature_names]
    if unknown:
        raise UserError(
            f"{model_uri} takes columns that are not features of {pipeline.name}: "
            f"{listed(unknown)}."
        )
    return columns


def _features(
    pipeline: Pipeline, rows: pd.DataFrame, columns: list[str], source: Path
) -> pd.DataFrame:
    """The columns of the model, in the types that it was trained with."""
    missing = [name for name in columns if name not in rows]
    if missing:
        hints = (did_you_mean(name, map(str, rows)) for name in missing)
        raise UserError(
            f"{source} has no column {listed(missing)}.", fix=" ".join(filter(None, hints))
        )
    return input_rows.typed(rows, columns, str(source), pipeline.data)


def _format(path: Path) -> Format:
    return source_format(Source(uri=path.absolute().as_uri()))


def _read(path: Path, data: Data) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows as they are written, and as the pipeline reads them."""
    kind = _format(path)
    try:
        match kind:
            case "csv":
                return _read_csv(path, data)
            case "jsonl":
                rows = pd.read_json(
                    path,
                    lines=True,
                    dtype=False,
                    convert_axes=False,
                    convert_dates=False,
                    precise_float=True,
                )
            case "parquet":
                rows = pd.read_parquet(path)
    except DAMAGED as err:
        raise UserError(f"{path} cannot be read as {kind}.", why=str(err)) from err
    return rows, rows


def _read_csv(path: Path, data: Data) -> tuple[pd.DataFrame, pd.DataFrame]:
    """With the options of the pipeline's own CSV source; once as text, to write it unchanged."""
    if input_rows.csv_source(data) is None:
        source = Source(uri=path.absolute().as_uri(), format="csv")
        data = data.model_copy(update={"sources": (source,)})
    rows = input_rows.read_csv(path, str(path), data)
    text = input_rows.read_csv(
        path, str(path), data, dtype="str", keep_default_na=False, na_filter=False
    )
    assert rows is not None
    assert text is not None
    return text, rows


def _write(table: pd.DataFrame, path: Path, kind: Format, compression: Any) -> None:
    match kind:
        case "csv":
            table.to_csv(path, index=False, lineterminator="\n", compression=compression)
        case "jsonl":
            with (gzip.open if compression else open)(path, "wt", encoding="utf-8") as file:
                for first in range(0, len(table), PIECE):
                    for row in json_values.values(table.iloc[first : first + PIECE]):
                        record = dict(zip(table.columns, row, strict=True))
                        file.write(f"{json.dumps(record, ensure_ascii=False)}\n")
        case "parquet":
            table.to_parquet(path, index=False)
