"""A column that grows piece by piece, held in memory only once."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

REPEATED = 2
"""Texts that occur this often in their piece, on average, become a categorical."""


class GrowingColumn:
    """The values of a column, so far.

    Numbers and times are in one array with spare room, whose pages use no memory until they are
    written; so the whole column is never copied next to its pieces. Of texts, each distinct one is
    kept once per piece, with its number in each row.
    """

    def __init__(self) -> None:
        self._array: NDArray[Any] | None = None
        self._size = 0
        self._texts: list[pa.DictionaryArray] = []

    def add(self, column: pd.Series[Any]) -> None:
        """Add the rows of a piece."""
        if not isinstance(column.dtype, np.dtype):
            encoded = pa.array(column, type=pa.large_string()).dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):  # Arrow would concatenate it value by value
                encoded = encoded.combine_chunks()
            self._texts.append(encoded)
            return
        values, size = column.to_numpy(), self._size + len(column)
        if self._array is None:
            self._array = values  # often the only piece, so not copied
        else:
            if size > len(self._array):
                grown = _allocate(2 * size, values.dtype)
                grown[: self._size] = self._array[: self._size]
                self._array = grown
            self._array[self._size : size] = values
        self._size = size

    def take(self) -> pd.Series[Any]:
        """All rows; the column is empty afterwards. Texts are a categorical if they repeat.

        The categories of a categorical are Python objects: 5 million unique ones took 2 GB more.
        """
        if self._array is not None:
            return pd.Series(self._array[: self._size], copy=False)
        pieces, self._texts = self._texts, []
        if sum(len(piece.dictionary) for piece in pieces) * REPEATED > sum(map(len, pieces)):
            texts = pa.concat_arrays([piece.dictionary_decode() for piece in pieces])
        else:
            texts = pa.chunked_array(pieces).unify_dictionaries()
        column: pd.Series[Any] = texts.to_pandas()
        del pieces, texts
        pa.default_memory_pool().release_unused()  # or it stays in memory next to the table
        return column


def _allocate(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of zeros outside the heap, which keeps freed arrays of each size (1 GB of 2)."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return np.frombuffer(mmap.mmap(-1, size * dtype.itemsize, private), dtype)
