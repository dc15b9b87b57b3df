"""Rows to predict, read and typed as the pipeline reads and types its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.base.errors import UserError
from tasks.data.checking import validate, wrong_type_failures
from tasks.data.reading import read, source_format
from tasks.data.sources import Fetched, File
from tasks.pipeline.schema import Column, Data, Scalar, Source

EXAMPLES = 5
"""Bad values named in an error."""
DIALECT = frozenset(
    {
        *("sep", "delimiter", "decimal", "thousands", "encoding", "engine", "comment"),
        *("quotechar", "quoting", "escapechar", "doublequote", "skipinitialspace"),
        *("na_values", "keep_default_na", "na_filter", "true_values", "false_values"),
    }
)
"""Options that say how values are written. Others choose rows or names of the source's own file."""


def csv_source(data: Data) -> Source | None:
    """The pipeline's first CSV source, whose options say how its CSV files are written."""
    files = (source for source in data.sources if not source.query)
    return next((source for source in files if source_format(source) == "csv"), None)


def read_csv(path: Path, shown: str, data: Data, **options: Scalar) -> pd.DataFrame | None:
    """The rows of a CSV file, read as the pipeline's first CSV source is; None if it has none.

    Args:
        path: The file; its ending tells whether it is compressed.
        shown: Its name in messages.
        data: The pipeline's sources and columns.
        options: Further options for the reader.

    Raises:
        UserError: The file cannot be read.
    """
    source = csv_source(data)
    if source is None:
        return None
    dialect = {name: value for name, value in source.options.items() if name in DIALECT}
    merged = {**dialect, "compression": "infer", **options}
    source = source.model_copy(update={"constants": {}, "options": merged, "format": "csv"})
    file = File(uri=shown, sha256="", size=0)
    rows = read(Fetched(source=source, files=(file,), paths=(path,)), data)
    return rows.set_axis([str(name) for name in rows.columns], axis=1)


def typed(rows: pd.DataFrame, columns: Iterable[str], shown: str, data: Data) -> pd.DataFrame:
    """These columns in the types that a model is trained with; `shown` names the file.

    Raises:
        UserError: A value is not of its column's type.
    """
    # Limits apply to training rows; an endpoint does not check them either.
    free = {name: Column(type=data.columns[name].type, nullable=True) for name in columns}
    validated = validate(rows[[*free]], data.model_copy(update={"columns": free}))
    wrong = [
        wrong_type_failures(rows[name], free[name].type, np.flatnonzero(mask))
        for name, mask in validated.wrong.items()
    ]
    failures = pd.concat([*wrong, validated.broken], ignore_index=True)
    if len(failures):
        bad = [f"row {f.row}: {f.column} {f.rule}" for f in failures.head(EXAMPLES).itertuples()]
        raise UserError(
            f"{failures['row'].nunique()} of {len(rows)} rows of {shown} cannot be scored.",
            why="\n".join(bad),
        )
    return validated.table
