"""Two tensors of one name: are they the same bytes, the same values, close, transposed, or not?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.tensor_chunks import RowReader, value_chunks
from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.domain.tolerance import Tolerance
    from pytest_aprqa.formats.tensor import Tensor

# Equal bytes are told in pieces of this many, so that nothing is copied whole.
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class ErrorSizes:
    """How far two tensors of one shape lie apart, over the places where both are finite."""

    max_abs: float
    """Largest |a - b|."""
    rmse: float
    """Root of the mean of (a - b)²."""
    nmse: float
    """Sum of (a - b)² / sum of a², as llama.cpp's test-backend-ops and check-nmse.py have it."""
    cosine: float
    """Sum of a·b / (|a| |b|); 1 where both are all zeros, 0 where one of them is."""
    gain: float
    """Sum of a·b / sum of a²: 1 where b is not a scaled; 1 where a is all zeros."""
    unlike: int
    """Places where one is NaN or infinite and the other is not the same."""


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first place, in storage order, where two tensors differ by more than is tolerated."""

    index: tuple[int, ...]
    value_a: float | int
    value_b: float | int
    count: int
    """How many places differ by more than is tolerated."""
    of: int
    """How many places there are."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing all values gave; `first` is None when all are within the tolerance."""

    equal: bool
    """Whether every value is equal (NaN to NaN, 0 to -0)."""
    sizes: ErrorSizes
    first: FirstDifference | None


def same_bytes(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether two flat uint8 arrays are equal."""
    import numpy as np

    return a.size == b.size and all(
        np.array_equal(a[start : start + _PIECE], b[start : start + _PIECE])
        for start in range(0, a.size, _PIECE)
    )


def compare_values(
    a: Tensor,
    data_a: np.ndarray[Any, Any],
    b: Tensor,
    data_b: np.ndarray[Any, Any],
    tolerance: Tolerance,
) -> Comparison:
    """Compare two tensors of one shape value by value; `data_*` are their bytes.

    A NaN equals a NaN in the same place, an infinity its like; either differs from all else.
    """
    sums = _Sums()
    pieces = zip(
        value_chunks(a.encoding, data_a, a.shape),
        value_chunks(b.encoding, data_b, b.shape),
        strict=True,
    )
    for values_a, values_b in pieces:
        sums.add(values_a, values_b, tolerance)
    return sums.comparison(a.shape)


def is_transposed(
    a: Tensor,
    data_a: np.ndarray[Any, Any],
    b: Tensor,
    data_b: np.ndarray[Any, Any],
    tolerance: Tolerance,
) -> bool:
    """Whether b is a with its last two dimensions exchanged, within the tolerance."""
    swapped = (*a.shape[:-2], *a.shape[:-3:-1])
    if len(a.shape) < 2 or b.shape != swapped or not math.prod(a.shape):
        return False
    rows, columns = a.shape[-2:]
    ours, theirs = RowReader(a.encoding, data_a, a.shape), RowReader(b.encoding, data_b, b.shape)
    step = max(1, CHUNK_ELEMENTS // rows)  # rows of b are columns of a
    for matrix in range(math.prod(a.shape[:-2])):
        whole = ours.rows(matrix * rows, (matrix + 1) * rows)
        for start in range(0, columns, step):
            stop = min(columns, start + step)
            piece = theirs.rows(matrix * columns + start, matrix * columns + stop)
            if not _close(whole[:, start:stop].T, piece, tolerance).all():
                return False
    return True


def _equal(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    with np.errstate(invalid="ignore"):  # a signalling NaN may be among them
        same: np.ndarray[Any, Any] = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def _close(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], tolerance: Tolerance
) -> np.ndarray[Any, Any]:
    """Place by place: equal, or both finite and |a - b| <= atol + rtol |a|."""
    import numpy as np

    same = _equal(a, b)
    if not (tolerance.atol or tolerance.rtol):
        return same  # whole numbers beyond 2**53 would be rounded below
    with np.errstate(invalid="ignore", over="ignore"):
        left, right = a.astype(np.float64), b.astype(np.float64)
        near = np.abs(left - right) <= tolerance.atol + tolerance.rtol * np.abs(left)
        # An infinite bound would let an infinity pass for anything.
        finite = np.isfinite(left) & np.isfinite(right)
    close: np.ndarray[Any, Any] = (near & finite) | same
    return close


class _Sums:
    """What one pass over two tensors adds up, in float64."""

    def __init__(self) -> None:
        self.squares_a = self.squares_b = self.products = self.errors = self.largest = 0.0
        self.finite = self.seen = self.beyond = self.unlike = 0
        self.equal = True
        self.first: tuple[int, float | int, float | int] | None = None

    def add(self, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], tolerance: Tolerance) -> None:
        """Take in two flat pieces of equal length."""
        import numpy as np

        same = _equal(a, b)
        self.equal = self.equal and bool(same.all())
        both = np.isfinite(a) & np.isfinite(b)
        self.unlike += int((~both & ~same).sum())
        left, right = (a, b) if both.all() else (a[both], b[both])
        self._add_finite(left.astype(np.float64), right.astype(np.float64))
        if not same.all():
            beyond = np.flatnonzero(~_close(a, b, tolerance))
            if beyond.size and self.first is None:
                place = int(beyond[0])
                self.first = (self.seen + place, a[place].item(), b[place].item())
            self.beyond += beyond.size
        self.seen += a.size

    def _add_finite(self, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> None:
        import numpy as np

        with np.errstate(over="ignore"):  # float64 near its end has infinite squares
            self.finite += a.size
            self.squares_a += float(a @ a)
            self.squares_b += float(b @ b)
            self.products += float(a @ b)
            error = np.subtract(a, b, out=a)
            self.errors += float(error @ error)
            self.largest = max(self.largest, float(np.abs(error, out=error).max(initial=0.0)))

    def comparison(self, shape: tuple[int, ...]) -> Comparison:
        """The sums as sizes of error."""
        first = None
        if self.first is not None:
            flat, value_a, value_b = self.first
            first = FirstDifference(_index(flat, shape), value_a, value_b, self.beyond, self.seen)
        return Comparison(self.equal, self._sizes(), first)

    def _sizes(self) -> ErrorSizes:
        nothing = 0.0 if not self.errors else math.inf
        norms = math.sqrt(self.squares_a) * math.sqrt(self.squares_b)
        alike = 0.0 if self.errors else 1.0  # no error: cosine 1 without its rounding
        return ErrorSizes(
            max_abs=self.largest,
            rmse=math.sqrt(self.errors / self.finite) if self.finite else 0.0,
            nmse=self.errors / self.squares_a if self.squares_a else nothing,
            cosine=min(1.0, max(-1.0, self.products / norms)) if norms and self.errors else alike,
            gain=self.products / self.squares_a if self.squares_a and self.errors else 1.0,
            unlike=self.unlike,
        )


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A place in storage order as one index for each dimension."""
    index: list[int] = []
    for size in reversed(shape):
        flat, place = divmod(flat, size)
        index.append(place)
    return tuple(reversed(index))
