"""Counts categories in the other parts that do not occur in the training part."""

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
"""Columns that fit into a tag; those with the most rows are named."""


def count(pipeline: Pipeline, table: pd.DataFrame, side: Sides) -> dict[str, dict[str, int]]:
    """For each part but train: column -> rows with a category that train does not have.

    Columns that declare their `values` are left out: the model knows all of them.
    """
    unseen: dict[str, dict[str, int]] = {part: {} for part in PARTS[1:]}
    for name in pipeline.feature_names:
        column = pipeline.data.columns[name]
        if column.type != "category" or column.values is not None:
            continue
        codes, values = pd.factorize(table[name])
        known = np.zeros(len(values) + 1, dtype=bool)
        known[codes[side == 0]] = True
        known[-1] = True  # a null has code -1 and is not a new category
        for index, part in enumerate(PARTS[1:], start=1):
            rows = int((~known[codes] & (side == index)).sum())
            if rows:
                unseen[part][name] = rows
    return {part: columns for part, columns in unseen.items() if columns}


def warn(manifest: Manifest) -> None:
    """Log the counts."""
    for part, columns in manifest.unseen.items():
        for name, rows in columns.items():
            log.warning(
                "%d of %d rows of the %s part have a category in %r that no training row has.",
                rows,
                manifest.files[part].rows,
                part,
                name,
            )


def tag(manifest: Manifest) -> str:
    """The counts as a tag for a run."""
    return json.dumps(
        {
            part: dict(sorted(columns.items(), key=lambda item: -item[1])[:NAMED])
            for part, columns in manifest.unseen.items()
        }
    )
