"""Which part a row belongs to. A unit never has rows in two parts, but for method `random`."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from tasks.errors import UserError
from tasks.pipeline.schema import Folds, Pipeline, Split
from tasks.prepare import units as hashing

log = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")
Sides = NDArray[np.int8]
"""A row's part as its index in `PARTS`, `(rows,)`."""


def sides(table: pd.DataFrame, units: NDArray[np.int64], split: Split) -> Sides:
    """The part of each row."""
    match split.method:
        case "hash":
            return by_hash(units, split)
        case "time":
            assert split.column is not None
            return by_time(table[split.column], units, split)
        case "random":
            log.warning(
                "Split 'random' shuffles rows, as published figures do: equal rows may be in two "
                "parts, and a row may change its part when the data grows."
            )
            return at_random(len(table), split)


def by_hash(units: NDArray[np.int64], split: Split) -> Sides:
    """Decided by the seed and the unit alone, so that rows added or moved change nobody's part."""
    position = hashing.positions(units, split.seed)
    return np.where(
        position < split.test, 2, np.where(position < split.test + split.validation, 1, 0)
    ).astype(np.int8)


def by_time(times: pd.Series[Any], units: NDArray[np.int64], split: Split) -> Sides:
    """Newest units last. A unit is as new as its newest row, so nothing newer is trained on."""
    codes, names = pd.factorize(units)
    newest = np.full(len(names), np.iinfo(np.int64).min)
    stamps = times.to_numpy().astype("datetime64[us]").view(np.int64)
    np.maximum.at(newest, codes, stamps)
    ordered = np.sort(newest)
    sides = np.zeros(len(names), dtype=np.int8)
    for side, fraction in ((1, split.validation + split.test), (2, split.test)):
        first = len(ordered) - round(fraction * len(ordered))
        if first < len(ordered):
            sides[newest >= ordered[first]] = side  # ties go to the newer part together
    return sides[codes]


def at_random(rows: int, split: Split) -> Sides:
    """scikit-learn's shuffle of the rows in the file's order, for figures published with it."""
    sides = np.zeros(rows, dtype=np.int8)
    try:
        rest, test = train_test_split(
            np.arange(rows), test_size=split.test, random_state=split.seed
        )
        sides[test] = 2
        if split.validation:
            share = split.validation / (1 - split.test)
            _, validation = train_test_split(rest, test_size=share, random_state=split.seed)
            sides[validation] = 1
    except ValueError as err:
        raise UserError(
            f"The {rows} rows cannot be split at random.", why=str(err), fix=_MORE
        ) from err
    return sides


def check(pipeline: Pipeline, table: pd.DataFrame, units: NDArray[np.int64], side: Sides) -> None:
    """Whether each part holds what its users need.

    Raises:
        UserError: a part without units, fewer units than folds, a class that nobody trains on.
    """
    split, target = pipeline.split, table[pipeline.data.target]
    fractions = {"train": 1.0, "validation": split.validation, "test": split.test}
    for index, part in enumerate(PARTS):
        if fractions[part] and not (side == index).any():
            raise UserError(
                f"The table has too few units for its split: of {_count(units)} units none is in "
                f"the {part} part.",
                fix=_MORE,
            )
    resampling = pipeline.search.resampling
    if isinstance(resampling, Folds) and _count(units[side == 0]) < resampling.folds:
        raise UserError(
            f"The training part has {_count(units[side == 0])} units, too few for "
            f"{resampling.folds} folds.",
            fix="Give more data, or fewer folds under search.resampling.",
        )
    trained, name = target[side == 0], pipeline.data.target
    if trained.nunique() < 2:
        raise UserError(
            f"The target {name!r} has one value only in the training part: {trained.iloc[0]}.",
            fix=_MORE,
        )
    if pipeline.data.task != "regression":
        unseen = sorted(set(target.unique().tolist()) - set(trained.unique().tolist()))
        if unseen:
            raise UserError(
                f"The target {name!r} has classes without a unit in the training part: {unseen}.",
                fix=_MORE,
            )


_MORE = "Give more data, or other fractions or another seed under split."


def _count(units: NDArray[np.int64]) -> int:
    return len(np.unique(units))
