"""Categories that the training part does not have, counted in the other parts."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd

from tasks.data.split import PARTS, Sides
from tasks.pipeline.schema import Pipeline
from tasks.records.snapshots import Manifest

log = logging.getLogger(__name__)

NAMED = 50
"""Columns that a tag has room for; those with the most rows are named."""


def count(pipeline: Pipeline, table: pd.DataFrame, side: Sides) -> dict[str, dict[str, int]]:
    """Of the parts other than train: column -> rows whose category train does not have.

    Columns that declare their `values` are left out: the model knows all of those.
    """
    found: dict[str, dict[str, int]] = {part: {} for part in PARTS[1:]}
    for name in pipeline.feature_names:
        column = pipeline.data.columns[name]
        if column.type != "category" or column.values is not None:
            continue
        codes, values = pd.factorize(table[name])
        known = np.zeros(len(values) + 1, dtype=bool)
        known[codes[side == 0]] = True
        known[-1] = True  # a null's code is -1, and a null is no new value
        for index, part in enumerate(PARTS[1:], start=1):
            rows = int((~known[codes] & (side == index)).sum())
            if rows:
                found[part][name] = rows
    return {part: columns for part, columns in found.items() if columns}


def warn(manifest: Manifest) -> None:
    """Say in the log what was counted."""
    for part, columns in manifest.unseen.items():
        for name, rows in columns.items():
            log.warning(
                "%d of %d rows of the %s part have a category of %r that no training row has.",
                rows,
                manifest.files[part].rows,
                part,
                name,
            )


def tag(manifest: Manifest) -> str:
    """What was counted, for a run."""
    return json.dumps(
        {
            part: dict(sorted(columns.items(), key=lambda item: -item[1])[:NAMED])
            for part, columns in manifest.unseen.items()
        }
    )
