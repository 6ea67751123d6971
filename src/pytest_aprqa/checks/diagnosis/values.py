"""What happened to one matrix: hypotheses tried in turn, each on the values themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.diagnosis.defects import Defect
from pytest_aprqa.conversion.families.row_orders import paired

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SLACK = 2.0**-14
"""Relative squared error up to which a hypothesis explains the values, beside what a quantization
may cost: two roundings to bfloat16 (2**-16 each), and their differences."""
MOST_ROWS = 8192
"""Rows up to which a permutation of single rows is looked for: it takes their square."""
SURE = 0.9
"""Correlation from which a row is another's copy, quantized or not."""
LITTLE = 0.5
"""Share of a tensor's rows up to which damage is told as part of it."""


@dataclass(frozen=True, slots=True)
class Heads:
    """How rows are cut into attention heads; none for other tensors."""

    count: int
    size: int


def explain(a: Array, b: Array, *, limit: float, heads: Heads | None) -> tuple[Defect, str] | None:
    """The first hypothesis that turns `a` into `b` within `limit`, and how, in words.

    Args:
        a: The original's values, float32.
        b: The other's, of the same number of values.
        limit: Relative squared error that the encoding of `b` may cost.
        heads: The attention heads that its rows are, or None.
    """
    tries: tuple[Callable[[], tuple[Defect, str] | None], ...] = (
        lambda: _not_finite(a, b),
        lambda: _zeroed(a, b),
        lambda: _transposed(a, b, limit),
        lambda: _offset(a, b, limit),
        lambda: _scaled(a, b, limit),
    )
    for attempt in tries:
        if (found := attempt()) is not None:
            return found
    return _moved(a, b, limit, heads)


def partly(a: Array, b: Array, limit: float) -> tuple[Defect, str]:
    """Where a tensor that nothing explains differs: in some rows, or everywhere."""
    import numpy as np

    if a.ndim < 2 or a.shape != b.shape:
        return Defect.NOISE, f"holds other values (relative error {relative(a, b):.3g})"
    rows = a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1])
    power = np.maximum((rows[0] ** 2).mean(axis=1), 1e-30)
    errors = ((rows[0] - rows[1]) ** 2).mean(axis=1) / power
    bad = np.flatnonzero(errors > max(16 * limit, 1e-4))
    if bad.size and bad.size <= LITTLE * len(errors):
        dead = bool((rows[1][bad] == 0).all())
        span = f"rows {bad[0]} to {bad[-1]} ({bad.size} of {len(errors)})"
        if dead:
            return Defect.PART_ZEROED, f"is zero in {span}"
        return Defect.PART, f"holds other values in {span}"
    dead_columns = np.flatnonzero((rows[1] == 0).all(axis=0) & (rows[0] != 0).any(axis=0))
    if dead_columns.size:
        return Defect.PART_ZEROED, (
            f"is zero in columns {dead_columns[0]} to {dead_columns[-1]} "
            f"({dead_columns.size} of {a.shape[-1]})"
        )
    return Defect.NOISE, f"holds other values throughout (relative error {relative(a, b):.3g})"


def relative(a: Array, b: Array) -> float:
    """Mean squared difference over the mean square of `a`."""
    import numpy as np

    power = float(np.square(a, dtype=np.float64).mean())
    error = float(np.square(a - b, dtype=np.float64).mean())
    return error / power if power else float("inf") if error else 0.0


def near(a: Array, b: Array, limit: float) -> bool:
    """Whether the values are the same within the limit."""
    return a.shape == b.shape and relative(a, b) <= limit + SLACK


def _not_finite(a: Array, b: Array) -> tuple[Defect, str] | None:
    import numpy as np

    bad = int((~np.isfinite(b)).sum())
    if bad and bool(np.isfinite(a).all()):
        return Defect.NOT_FINITE, f"has {bad} NaN or infinities among {b.size} values"
    return None


def _zeroed(a: Array, b: Array) -> tuple[Defect, str] | None:
    return (Defect.ZEROED, "is zero throughout") if not b.any() and a.any() else None


def _transposed(a: Array, b: Array, limit: float) -> tuple[Defect, str] | None:
    if a.ndim == 2 and near(a.T, b, limit):
        return Defect.TRANSPOSED, f"is transposed ({list(a.shape)} as {list(b.shape)})"
    return None


def _offset(a: Array, b: Array, limit: float) -> tuple[Defect, str] | None:
    import numpy as np

    if a.shape != b.shape:
        return None
    step = float((b - a).mean(dtype=np.float64))
    if abs(step) > 0.1 * float(np.abs(a).mean()) and near(a + np.float32(step), b, limit):
        return Defect.OFFSET, f"is moved by {step:+.4g} in every value"
    return None


def _scaled(a: Array, b: Array, limit: float) -> tuple[Defect, str] | None:
    import numpy as np

    if a.shape != b.shape:
        return None
    power = float(np.square(a, dtype=np.float64).sum())
    gain = float((a.astype(np.float64) * b).sum()) / power if power else 0.0
    if gain == 0 or not near(a * np.float32(gain), b, limit * gain * gain):
        return None
    if abs(gain + 1) < 0.02:
        return Defect.SIGN, "has its sign flipped"
    return (Defect.SCALED, f"is scaled by {gain:.4g}") if abs(gain - 1) > 1e-3 else None


def _moved(a: Array, b: Array, limit: float, heads: Heads | None) -> tuple[Defect, str] | None:
    if a.shape != b.shape or a.ndim == 0:
        return None
    flat = (a.reshape(-1, 1), b.reshape(-1, 1)) if a.ndim == 1 else None
    rows_a, rows_b = flat or (a.reshape(-1, a.shape[-1]), b.reshape(-1, a.shape[-1]))
    for defect, told, order in _orders(rows_a.shape[0], heads):
        if near(rows_a[order], rows_b, limit):
            return defect, told
    if (found := _head_order(rows_a, rows_b, limit, heads)) is not None:
        return found
    if a.ndim < 2:
        return None
    sides = ((Defect.ROWS, "rows", rows_a, rows_b), (Defect.COLUMNS, "columns", rows_a.T, rows_b.T))
    for defect, word, one, two in sides:
        order_of = _matching(one, two)
        if order_of is not None and near(one[order_of], two, limit):
            moved = int((order_of != range(len(order_of))).sum())
            return defect, f"has {moved} of {len(order_of)} {word} permuted"
    return None


def _orders(rows: int, heads: Heads | None) -> Iterator[tuple[Defect, str, Array]]:
    """Movements of rows that have a name."""
    import numpy as np

    if heads is not None and heads.count * heads.size == rows and heads.size % 2 == 0:
        order = paired(heads.count, heads.size)
        yield Defect.ROPE, "has its rows paired as the other rope style wants", order
        yield Defect.ROPE, "has its rows in halves as the other rope style wants", np.argsort(order)
    for step in (1, -1):
        yield Defect.SHIFTED, f"has its rows shifted by {step}", np.roll(np.arange(rows), step)


def _head_order(a: Array, b: Array, limit: float, heads: Heads | None) -> tuple[Defect, str] | None:
    """Whole heads in another order."""
    if heads is None or heads.count * heads.size != a.shape[0] or heads.count < 2:
        return None
    blocks_a, blocks_b = (m.reshape(heads.count, -1) for m in (a, b))
    order = _matching(blocks_a, blocks_b)
    if order is None or not near(blocks_a[order], blocks_b, limit):
        return None
    moved = [str(i) for i, place in enumerate(order.tolist()) if i != place]
    return Defect.HEADS, f"has heads {', '.join(moved[:8])} permuted"


def _matching(a: Array, b: Array) -> Array | None:
    """The row of `a` that each row of `b` is a copy of; None where there is no such order."""
    import numpy as np

    if a.shape[0] > MOST_ROWS or a.shape[0] < 2 or a.shape[1] < 4:
        return None
    norms = (np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    unit_a, unit_b = (m / np.maximum(n, 1e-30) for m, n in zip((a, b), norms, strict=True))
    found = np.asarray((unit_b @ unit_a.T).argmax(axis=1))
    if len(set(found.tolist())) != len(found) or bool((found == np.arange(len(found))).all()):
        return None
    sure = np.einsum("ij,ij->i", unit_b, unit_a[found])
    return found if float(sure.min()) > SURE else None
