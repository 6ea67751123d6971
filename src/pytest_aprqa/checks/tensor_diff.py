"""Two sets of tensors, name by name: what is the same, what is close, and what differs first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_aprqa.checks.tensor_pair import (
    ErrorSizes,
    FirstDifference,
    compare_values,
    is_transposed,
    same_bytes,
)
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_aprqa.domain.tolerance import Tolerance
    from pytest_aprqa.formats.tensor import Tensor


class Outcome(StrEnum):
    """What two tensors of one name are to each other."""

    IDENTICAL = "identical"
    """The same bytes in the same encoding."""
    EQUAL = "equal"
    """Other bytes (another encoding, say), the same values."""
    WITHIN = "within tolerance"
    DIFFERS = "differs"
    TRANSPOSED = "transposed"
    """b is a with its last two dimensions exchanged, within the tolerance."""
    SHAPE = "shape mismatch"
    MISSING_A = "missing in A"
    MISSING_B = "missing in B"


PASSING = (Outcome.IDENTICAL, Outcome.EQUAL, Outcome.WITHIN)
"""The outcomes that are no difference."""


@dataclass(frozen=True, slots=True)
class TensorResult:
    """One name: the outcome, and what it rests on."""

    name: str
    outcome: Outcome
    encoding_a: str | None
    encoding_b: str | None
    shape_a: tuple[int, ...] | None
    shape_b: tuple[int, ...] | None
    sizes: ErrorSizes | None = None
    """None where no values were compared: identical bytes, other shapes, one side missing."""
    first: FirstDifference | None = None

    @property
    def passed(self) -> bool:
        """Whether the two are equal or within the tolerance."""
        return self.outcome in PASSING

    @property
    def encoding_differs(self) -> bool:
        """Whether both sides have the tensor, in different encodings."""
        return None not in (self.encoding_a, self.encoding_b) and self.encoding_a != self.encoding_b

    def told(self) -> str:
        """The outcome in one line, with both values where they differ first."""
        kinds = self._kinds()
        if self.outcome in (Outcome.MISSING_A, Outcome.MISSING_B):
            return f"{self.name}: {self.outcome} ({kinds})"
        if self.outcome is Outcome.SHAPE or self.outcome is Outcome.TRANSPOSED:
            shapes = f"{list(self.shape_a or ())} and {list(self.shape_b or ())}"
            return f"{self.name}: {self.outcome}: {shapes} ({kinds})"
        text = f"{self.name}: {self.outcome}"
        if self.first is not None:
            at = self.first
            text += (
                f" at {list(at.index)}: {_exact(at.value_a)} and {_exact(at.value_b)}; "
                f"{at.count} of {at.of} values beyond the tolerance"
            )
        if self.sizes is not None and self.outcome is not Outcome.EQUAL:
            text += f"; largest error {self.sizes.max_abs:.3g}, NMSE {self.sizes.nmse:.3g}"
        return f"{text} ({kinds})"

    def _kinds(self) -> str:
        known = [kind for kind in (self.encoding_a, self.encoding_b) if kind is not None]
        return " and ".join(dict.fromkeys(known))


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """The results in the order of A, then what only B has."""

    results: tuple[TensorResult, ...]

    @property
    def passed(self) -> bool:
        """Whether there is something to compare and no tensor differs."""
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def first_difference(self) -> TensorResult | None:
        """The first tensor that differs; None when none does."""
        return next((result for result in self.results if not result.passed), None)

    @property
    def worst(self) -> TensorResult | None:
        """Of the tensors whose values were compared, the one with the largest NMSE."""
        compared = [result for result in self.results if result.sizes is not None]
        return max(compared, key=lambda r: r.sizes.nmse if r.sizes else 0.0, default=None)

    def summary(self) -> str:
        """One line: how many tensors there are of each outcome, and the first that differs."""
        if not self.results:
            return "no tensors on either side; expected at least one"
        counts = Counter(result.outcome for result in self.results)
        shares = ", ".join(f"{counts[kind]} {kind}" for kind in Outcome if counts[kind])
        text = f"{len(self.results)} tensors: {shares}"
        other = sum(result.encoding_differs for result in self.results)
        if other:
            text += f"; {other} in another encoding"
        first = self.first_difference
        return one_line(f"{text}; first: {first.told()}" if first else text, limit=800)


def _exact(value: float | int) -> str:
    """A number so that two different ones look different: nine digits tell float32s apart."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.9g}" if float(f"{value:.9g}") == value else repr(value)


def diff_tensors(
    a: Sequence[Tensor],
    b: Sequence[Tensor],
    *,
    tolerance: Tolerance,
    progress: Callable[[str, int, int], None] | None = None,
) -> TensorDiff:
    """Compare tensors of equal names, one pair in memory at a time.

    A is the reference: a place passes with |a - b| <= atol + rtol |a|. `progress` is told each
    name with how many are done and how many there are.

    Raises:
        CheckpointError: when an encoding cannot be decoded.
    """
    theirs = {tensor.name: tensor for tensor in b}
    ours = {tensor.name for tensor in a}
    only_b = [tensor for tensor in b if tensor.name not in ours]
    total = len(a) + len(only_b)
    results: list[TensorResult] = []
    for tensor in a:
        other = theirs.get(tensor.name)
        results.append(_pair(tensor, other, tolerance) if other else _lone(tensor, in_a=True))
        if progress is not None:
            progress(tensor.name, len(results), total)
    return TensorDiff((*results, *(_lone(tensor, in_a=False) for tensor in only_b)))


def _lone(tensor: Tensor, *, in_a: bool) -> TensorResult:
    if in_a:
        return TensorResult(
            tensor.name, Outcome.MISSING_B, tensor.encoding, None, tensor.shape, None
        )
    return TensorResult(tensor.name, Outcome.MISSING_A, None, tensor.encoding, None, tensor.shape)


def _pair(a: Tensor, b: Tensor, tolerance: Tolerance) -> TensorResult:
    """The outcome of one pair; both sides' pages are given back at its end."""
    try:
        outcome, sizes, first = _outcome(a, b, tolerance)
    finally:
        a.done()
        b.done()
    return TensorResult(a.name, outcome, a.encoding, b.encoding, a.shape, b.shape, sizes, first)


def _outcome(
    a: Tensor, b: Tensor, tolerance: Tolerance
) -> tuple[Outcome, ErrorSizes | None, FirstDifference | None]:
    swapped = b.shape == (*a.shape[:-2], *a.shape[:-3:-1])
    if a.shape != b.shape and not swapped:
        return Outcome.SHAPE, None, None
    data_a, data_b = a.read(), b.read()
    if a.shape != b.shape:
        turned = is_transposed(a, data_a, b, data_b, tolerance)
        return (Outcome.TRANSPOSED if turned else Outcome.SHAPE), None, None
    if a.encoding == b.encoding and same_bytes(data_a, data_b):
        return Outcome.IDENTICAL, None, None
    found = compare_values(a, data_a, b, data_b, tolerance)
    if found.first is None:
        return (Outcome.EQUAL if found.equal else Outcome.WITHIN), found.sizes, None
    if is_transposed(a, data_a, b, data_b, tolerance):
        return Outcome.TRANSPOSED, found.sizes, found.first
    return Outcome.DIFFERS, found.sizes, found.first
