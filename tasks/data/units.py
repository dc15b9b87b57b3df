"""A unit's 64-bit hash, the same on every platform and with every version of the libraries.

A value becomes 64 bits (a number: its IEEE 754 double, with one zero and one NaN; a time:
microseconds since 1970; a text: BLAKE2b of its UTF-8), is mixed with its column's name, and the
columns are mixed one after the other in the order of their names. The mixing is splitmix64's
finalizer (Steele, Lea, Flood 2014). None of this may change without a new snapshot format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Bits = NDArray[np.uint64]

BLOCK = 100_000
"""Texts that are hashed at once: a table of five million different ones took 700 MB."""
_NAN = np.uint64(0x7FF8000000000000)
_NULL_TEXT = np.uint64(0xFFF8000000000001)  # a NaN that no number here can be
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def hashes(table: pd.DataFrame, columns: Iterable[str]) -> NDArray[np.int64]:
    """The hash of each row's unit, `(rows,)`: equal for equal values in `columns`."""
    state = np.zeros(len(table), dtype=np.uint64)
    for name in sorted(columns):
        state ^= _mix(_bits(table[name]) ^ _text_bits(name))
        state = _mix(state)
    return state.view(np.int64)


def positions(units: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Where each unit falls in [0, 1) under `seed`, `(rows,)`."""
    key = _mix(np.array([seed], dtype=np.uint64))
    mixed = _mix(units.view(np.uint64) ^ key)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: Bits) -> Bits:
    mixed = values + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _bits(column: pd.Series[Any]) -> Bits:
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return column.to_numpy().astype("datetime64[us]").view(np.uint64)
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = column.to_numpy(dtype=np.float64, copy=True)
        numbers[numbers == 0] = 0.0  # also -0.0
        bits = numbers.view(np.uint64)
        bits[np.isnan(numbers)] = _NAN
        return bits
    starts = range(0, len(column), BLOCK)
    return np.concatenate(
        [np.empty(0, np.uint64), *(_texts(column.iloc[start : start + BLOCK]) for start in starts)]
    )


def _texts(column: pd.Series[Any]) -> Bits:
    codes, texts = pd.factorize(column)
    table = np.array([*(_text_bits(str(text)) for text in texts), _NULL_TEXT], dtype=np.uint64)
    return table[codes]  # a null has code -1: the last


def _text_bits(text: str) -> np.uint64:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
