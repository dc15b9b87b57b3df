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
from tasks.pipeline.schema import Column, Data

EXAMPLES = 5
"""Bad values named in an error."""


def read_csv(path: Path, shown: str, data: Data) -> pd.DataFrame | None:
    """The rows of a CSV file, read as the pipeline's first CSV source is; None if it has none.

    Args:
        path: The file; its ending tells whether it is compressed.
        shown: Its name in messages.
        data: The pipeline's sources and columns.

    Raises:
        UserError: The file cannot be read.
    """
    files = [source for source in data.sources if not source.query and format_of(source) == "csv"]
    if not files:
        return None
    options = {**files[0].options, "compression": "infer"}
    source = files[0].model_copy(update={"constants": {}, "options": options, "format": "csv"})
    file = File(uri=shown, sha256="", size=0)
    return read(Fetched(source=source, files=(file,), paths=(path,)), data)


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
