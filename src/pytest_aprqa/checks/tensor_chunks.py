"""A tensor's values in pieces of bounded size, in the widest kind that loses none of them."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS
from pytest_aprqa.formats.encodings import decode, decoded_chunks, encoding_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

EXACT_BEYOND_FLOAT32 = MappingProxyType(
    {"F64": "<f8", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8"}
)
"""Encodings whose values float32 cannot hold, and the kind they stay in."""


def value_chunks(
    encoding: str, data: np.ndarray[Any, Any], shape: tuple[int, ...]
) -> Iterator[np.ndarray[Any, Any]]:
    """Flat pieces of 2**20 values (the last may be shorter) in storage order, none rounded.

    Float32, or the stored kind for EXACT_BEYOND_FLOAT32; `data` is all of a tensor's bytes.
    """
    if encoding in EXACT_BEYOND_FLOAT32:
        values = data.view(EXACT_BEYOND_FLOAT32[encoding])
        for start in range(0, values.size, CHUNK_ELEMENTS):
            yield values[start : start + CHUNK_ELEMENTS]
        return
    yield from decoded_chunks(encoding, data, shape)


class RowReader:
    """Any rows of a tensor that is seen as [product of shape[:-1], shape[-1]], decoded on demand.

    Encodings that keep rows apart decode only the rows asked for; others are decoded once, whole.
    """

    def __init__(self, encoding: str, data: np.ndarray[Any, Any], shape: tuple[int, ...]) -> None:
        self._encoding, self._columns = encoding, shape[-1]
        self._plain = (
            data.view(EXACT_BEYOND_FLOAT32[encoding]).reshape(-1, self._columns)
            if encoding in EXACT_BEYOND_FLOAT32
            else None
        )
        if self._plain is None and not encoding_of(encoding).by_row:
            self._plain = decode(encoding, data, (math.prod(shape[:-1]), self._columns))
        self._lines = rows_of(encoding, data, shape) if self._plain is None else None

    def rows(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """The values of rows `start` to `stop`: [stop - start, columns]."""
        if self._lines is None:
            assert self._plain is not None
            return self._plain[start:stop]
        lines = self._lines[start:stop]
        return decode(self._encoding, lines.reshape(-1), (len(lines), self._columns))
