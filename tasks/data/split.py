"""Which part a row belongs to. A unit never has rows in two parts.

The exception is method `random` without groups: it shuffles row by row, as published figures do.
"""

from __future__ import annotations

import logging
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)

from tasks.base.errors import UserError
from tasks.data.units import positions
from tasks.pipeline.schema import Folds, Pipeline, Split

log = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")
Sides = NDArray[np.int8]
"""A row's part as its index in `PARTS`, `(rows,)`."""
MOST_FOLDS = 20
"""A stratified part of whole units consists of such folds: fractions are multiples of 1/20."""


def sides(table: pd.DataFrame, units: NDArray[np.int64], split: Split, target: str) -> Sides:
    """The part of each row."""
    match split.method:
        case "hash":
            return by_hash(units, split)
        case "time":
            assert split.column is not None
            return by_time(table[split.column], units, split)
        case "random":
            log.warning(
                "Split 'random' shuffles, as published figures do: %sa row may change its part "
                "when the data grows.",
                "" if split.groups else "equal rows may be in two parts, and ",
            )
            return at_random(table, units, split, target)


def by_hash(units: NDArray[np.int64], split: Split) -> Sides:
    """By seed and unit only: adding or moving rows does not change the part of others."""
    position = positions(units, split.seed)
    return np.where(
        position < split.test, 2, np.where(position < split.test + split.validation, 1, 0)
    ).astype(np.int8)


def by_time(times: pd.Series[Any], units: NDArray[np.int64], split: Split) -> Sides:
    """Newest units last. A unit is as new as its newest row: nothing newer is trained on."""
    codes, names = pd.factorize(units)
    newest = np.full(len(names), np.iinfo(np.int64).min)
    stamps = times.to_numpy().astype("datetime64[us]").view(np.int64)
    np.maximum.at(newest, codes, stamps)
    ordered = np.sort(newest)
    sides = np.zeros(len(names), dtype=np.int8)
    for side, fraction in ((1, split.validation + split.test), (2, split.test)):
        first = len(ordered) - round(fraction * len(ordered))
        if first < len(ordered):
            sides[newest >= ordered[first]] = side  # ties all go to the newer part
    return sides[codes]


def at_random(table: pd.DataFrame, units: NDArray[np.int64], split: Split, target: str) -> Sides:
    """scikit-learn's shuffle of the rows in the file's order, to reproduce published figures.

    Rows with the same values in `groups` stay together. With `stratify`, each part has the same
    share of each class.
    """
    sides = np.zeros(len(table), dtype=np.int8)
    for index, part in enumerate(_drawn(table, units, split, target)):
        sides[part] = index
    return sides


def shuffled(
    table: pd.DataFrame, units: NDArray[np.int64], split: Split, target: str
) -> NDArray[np.intp]:
    """The rows in the order of scikit-learn's shuffle, part after part.

    For some solvers the result depends on the order of the rows.
    """
    return np.concatenate(_drawn(table, units, split, target))


def _drawn(
    table: pd.DataFrame, units: NDArray[np.int64], split: Split, target: str
) -> tuple[NDArray[np.intp], ...]:
    """The rows of each part, in the order of `PARTS`."""
    whole = units if split.groups else None
    classes = pd.factorize(table[target])[0] if split.stratify else None
    try:
        train, test = _take(np.arange(len(table)), split.test, split.seed, whole, classes)
        validation = np.arange(0)
        if split.validation:
            share = split.validation / (1 - split.test)
            train, validation = _take(train, share, split.seed, whole, classes)
    except ValueError as err:
        raise UserError(
            f"The {len(table)} rows cannot be split at random.", why=str(err), fix=_MORE
        ) from err
    return train, validation, test


def _take(
    rows: NDArray[np.intp],
    fraction: float,
    seed: int,
    units: NDArray[np.int64] | None,
    classes: NDArray[np.intp] | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The remaining rows, and the fraction taken out."""
    strata = None if classes is None else classes[rows]
    if units is None:
        kept, taken = train_test_split(rows, test_size=fraction, random_state=seed, stratify=strata)
        return kept, taken
    if strata is None:
        shuffle = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        kept, taken = next(shuffle.split(rows, groups=units[rows]))
    else:
        step = Fraction(1, MOST_FOLDS)
        part = min(max(Fraction(fraction).limit_denominator(MOST_FOLDS), step), 1 - step)
        fold = stratified_folds(units[rows], strata, part.denominator, seed)
        taken, kept = np.flatnonzero(fold < part.numerator), np.flatnonzero(fold >= part.numerator)
    return rows[kept], rows[taken]


def stratified_folds(
    units: NDArray[np.int64], classes: NDArray[np.intp], count: int, seed: int
) -> NDArray[np.intp]:
    """The fold of each row, `(rows,)`: folds of whole units, each with its share of each class.

    Raises:
        ValueError: There are fewer units than folds, in all or in every class.
    """
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    if 2 * len(first) > len(units):
        # Units of a row or two: by the first row's class. StratifiedGroupKFold took 4 s for 10,000.
        splitter, labels, groups = StratifiedKFold, classes[first], None
    else:
        splitter, labels, groups = StratifiedGroupKFold, classes, unit
    fold = np.empty(len(labels), dtype=np.intp)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # then some folds have none
        parts = splitter(count, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, rows) in enumerate(parts):
            fold[rows] = number
    return fold[unit] if groups is None else fold


def check(pipeline: Pipeline, table: pd.DataFrame, units: NDArray[np.int64], side: Sides) -> None:
    """Check that each part has what the later steps need.

    Raises:
        UserError: A part has no units, a fold would have none, or a class is not in train.
    """
    split, target = pipeline.split, table[pipeline.data.target]
    fractions = {"train": 1.0, "validation": split.validation, "test": split.test}
    for index, part in enumerate(PARTS):
        if fractions[part] and not (side == index).any():
            raise UserError(
                f"The table has too few units for its split: none of its {_count(units)} units is "
                f"in the {part} part.",
                fix=_MORE,
            )
    resampling = pipeline.search.resampling
    if isinstance(resampling, Folds) and _count(units[side == 0]) < resampling.folds:
        raise UserError(
            f"The training part has {_count(units[side == 0])} units, too few for "
            f"{resampling.folds} folds.",
            fix="Use more data, or fewer folds under search.resampling.",
        )
    trained, name = target[side == 0], pipeline.data.target
    if trained.nunique() < 2:
        raise UserError(
            f"The target {name!r} has only one value in the training part: {trained.iloc[0]}.",
            fix=_MORE,
        )
    if pipeline.data.task != "regression":
        missing = sorted(set(target.unique().tolist()) - set(trained.unique().tolist()))
        if missing:
            raise UserError(
                f"The target {name!r} has classes without a unit in the training part: {missing}.",
                fix=_MORE,
            )


_MORE = "Use more data, or other fractions or another seed under split."


def _count(units: NDArray[np.int64]) -> int:
    return len(np.unique(units))
