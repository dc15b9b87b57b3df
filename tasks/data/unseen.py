"""Rows to predict, read and typed as the pipeline reads and types its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.base.errors import UserError
from tasks.data.checking import of_wrong_type, validate
from tasks.data.reading import format_of, read
from tasks.data.sources import Fetched, File
from tasks.pipeline.schema import Column, Data, Source

EXAMPLES = 5
"""Bad values named in an error."""


def csv_source(data: Data) -> Source | None:
    """The pipeline's first CSV file; its options tell how such files are written."""
    files = (source for source in data.sources if not source.query)
    return next((source for source in files if format_of(source) == "csv"), None)


def read_csv(path: Path, shown: str, source: Source, data: Data) -> pd.DataFrame:
    """The rows of a CSV file that is written as this source is; `shown` names it in messages.

    Raises:
        UserError: The file cannot be read.
    """
    options = {**source.options, "compression": "infer"}  # this file may be compressed otherwise
    plain = source.model_copy(update={"constants": {}, "options": options, "format": "csv"})
    file = File(uri=shown, sha256="", size=0)
    return read(Fetched(source=plain, files=(file,), paths=(path,)), data)


def typed(rows: pd.DataFrame, columns: Iterable[str], shown: str, data: Data) -> pd.DataFrame:
    """These columns in the types that a model is trained with; `shown` names the file.

    Raises:
        UserError: A value is not of its column's type.
    """
    # Limits apply to training rows; an endpoint does not check them either.
    free = {name: Column(type=data.columns[name].type, nullable=True) for name in columns}
    validated = validate(rows[[*free]], data.model_copy(update={"columns": free}))
    wrong = [
        of_wrong_type(rows[name], free[name].type, np.flatnonzero(mask))
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
