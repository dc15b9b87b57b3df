"""A logged model's answers outside its endpoint: to the rows of a file, or to a snapshot's part."""

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
from tasks.data import json_values
from tasks.data.checking import validate, wrong_type_failures
from tasks.data.reading import DAMAGED, Format, source_format
from tasks.data.split import PARTS
from tasks.models import flavors, logged, metrics
from tasks.pipeline.load import load
from tasks.pipeline.schema import Column, Pipeline, Source
from tasks.records import registry
from tasks.records.snapshots import Manifest, matching_manifest, read_manifest, read_part
from tasks.serving.server.signature import MISSING

PREDICTION = "prediction"
"""The column that `score` adds."""
EXAMPLES = 5
"""Bad values named in an error."""
PIECE = 100_000
"""Rows that are written at a time as JSON lines."""


@dataclass(frozen=True)
class Scored:
    """What `score` wrote."""

    model: str
    rows: int
    target: Path


@dataclass(frozen=True)
class Measured:
    """A model's figures on a part of a snapshot."""

    model: str
    snapshot: str
    figures: dict[str, float]
    """By the metric's name with the part before it, as on a parent run: `test_rmse`."""


def score(name: str, source: Path, target: Path, model: str = tracking.CHAMPION) -> Scored:
    """Write the rows of a file with the model's prediction for each; all of them or none.

    Args:
        name: The pipeline.
        source: CSV, Parquet or JSON lines, by its ending; columns that are no features are kept.
        target: The same kinds; written when it is whole.
        model: A version's number or alias, or the id of a run that logged a model.

    Raises:
        UserError: There is no such model or file, or its rows cannot be scored.
    """
    pipeline, uri = load(name), logged.find_model_uri(name, model)
    write = _WRITERS[_format(target)]
    rows = _read(source)
    if PREDICTION in rows:
        raise UserError(f"{source} has a column {PREDICTION!r} already.", fix="Rename it.")
    features = _features(pipeline, rows, _columns(pipeline, uri), source)
    try:
        predicted = np.asarray(flavors.load(uri).predict(features))
    except (MlflowException, ValueError, TypeError) as err:
        raise UserError(f"{uri} cannot predict the rows of {source}.", why=str(err)) from err
    part = target.with_name(f".{target.name}")
    try:
        write(rows.assign(**{PREDICTION: predicted}), part, _compression(target))
        part.replace(target)
    except OSError as err:
        raise UserError(f"{target} cannot be written.", why=err.strerror or str(err)) from err
    return Scored(uri, len(rows), target)


def measure(
    name: str,
    model: str = tracking.CHAMPION,
    part: str = "test",
    snapshot: str | None = None,
    *,
    make_snapshot: Callable[[Pipeline], Manifest],
) -> Measured:
    """Every metric of the task for a model and a part of a snapshot.

    Args:
        name: The pipeline.
        model: A version's number or alias, or the id of a run that logged a model.
        part: `train`, `validation` or `test`.
        snapshot: URI of a manifest. By default the snapshot that the version was trained on, or,
            for a run that is no version, one of the data as they are now.
        make_snapshot: Makes a snapshot of the data as they are now.

    Raises:
        UserError: There is no such model, part or snapshot, or the model cannot predict it.
    """
    if part not in PARTS:
        raise UserError(f"The 'part' must be one of {', '.join(PARTS)}. Got {part!r} instead.")
    pipeline, uri = load(name), logged.find_model_uri(name, model)
    if snapshot:
        manifest = matching_manifest(pipeline, snapshot)
    else:
        manifest = _trained_on(pipeline, uri) or make_snapshot(pipeline)
    rows = read_part(manifest, part)
    if rows.empty:
        raise UserError(f"The snapshot {manifest.uri} has no rows in its part {part!r}.")
    columns, data = _columns(pipeline, uri), pipeline.data
    try:
        found = metrics.scores(data.task, flavors.load(uri), rows[columns], rows[data.target])
    except (MlflowException, ValueError, TypeError, AttributeError) as err:
        raise UserError(f"{uri} cannot predict {part} rows of {name}.", why=str(err)) from err
    figures = {f"{part}_{metric}": value for metric, value in found.items()}
    return Measured(uri, manifest.uri, figures)


def _trained_on(pipeline: Pipeline, uri: str) -> Manifest | None:
    number = uri.rpartition("/")[2]
    entry = registry.version(pipeline.name, int(number)) if number.isdigit() else None
    own = entry.tags.get(tracking.SNAPSHOT) if entry is not None else None
    return read_manifest(own) if own else None


def _columns(pipeline: Pipeline, uri: str) -> list[str]:
    """What the model takes, if the pipeline has it."""
    columns = list(logged.input_columns(uri) or pipeline.feature_names)
    unknown = [name for name in columns if name not in pipeline.feature_names]
    if unknown:
        raise UserError(f"{uri} takes columns that {pipeline.name} has not: {listed(unknown)}.")
    return columns


def _features(
    pipeline: Pipeline, rows: pd.DataFrame, columns: list[str], source: Path
) -> pd.DataFrame:
    """The columns of the model, in the types that it was trained with."""
    missing = [name for name in columns if name not in rows]
    if missing:
        near = " ".join(filter(None, (did_you_mean(name, map(str, rows)) for name in missing)))
        raise UserError(f"{source} has no column {listed(missing)}.", fix=near)
    data = pipeline.data
    # Limits are for training data: an endpoint does not ask for them either.
    free = {name: Column(type=data.columns[name].type, nullable=True) for name in columns}
    given = rows[columns]
    if _format(source) == "csv":
        given = given.mask(given.isin(MISSING))
    found = validate(given, data.model_copy(update={"columns": free}))
    wrong = [
        wrong_type_failures(given[name], free[name].type, np.flatnonzero(mask))
        for name, mask in found.wrong.items()
    ]
    failures = pd.concat([*wrong, found.broken], ignore_index=True)
    if len(failures):
        bad = [f"row {f.row}: {f.column} {f.rule}" for f in failures.head(EXAMPLES).itertuples()]
        raise UserError(
            f"{failures['row'].nunique()} of {len(rows)} rows of {source} cannot be scored.",
            why="\n".join(bad),
        )
    return found.table


def _format(path: Path) -> Format:
    return source_format(Source(uri=path.absolute().as_uri()))


def _compression(path: Path) -> str | None:
    return "gzip" if path.suffix == ".gz" else None


def _read(path: Path) -> pd.DataFrame:
    kind = _format(path)
    try:
        match kind:
            case "csv":  # as text: what is no feature must come out as it was
                return pd.read_csv(path, dtype="str", index_col=False, keep_default_na=False)
            case "jsonl":
                return pd.read_json(
                    path,
                    lines=True,
                    dtype=False,
                    convert_axes=False,
                    convert_dates=False,
                    precise_float=True,
                )
            case "parquet":
                return pd.read_parquet(path)
    except DAMAGED as err:
        raise UserError(f"{path} cannot be read as {kind}.", why=str(err)) from err


def _write_csv(table: pd.DataFrame, path: Path, compression: Any) -> None:
    table.to_csv(path, index=False, lineterminator="\n", compression=compression)


def _write_jsonl(table: pd.DataFrame, path: Path, compression: Any) -> None:
    names = list(table.columns)
    with (gzip.open if compression else open)(path, "wt", encoding="utf-8") as file:
        for first in range(0, len(table), PIECE):
            for row in json_values.values(table.iloc[first : first + PIECE]):
                file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))
                file.write("\n")


def _write_parquet(table: pd.DataFrame, path: Path, compression: Any) -> None:  # noqa: ARG001
    table.to_parquet(path, index=False)


_WRITERS: dict[Format, Callable[[pd.DataFrame, Path, Any], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
