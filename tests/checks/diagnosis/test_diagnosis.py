"""What became of a tensor is told from its values, quantized or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.diagnosis.defects import Defect
from pytest_aprqa.checks.diagnosis.values import Heads, explain, partly

HEADS = Heads(4, 8)
Array = np.ndarray[Any, Any]


def matrix() -> Array:
    drawn = np.random.default_rng(0).standard_normal((32, 48))
    return np.asarray(drawn * 0.05, np.float32)


def noisy(values: Array) -> Array:
    """With the error that four bits cost."""
    noise = np.random.default_rng(1).standard_normal(values.shape)
    return np.asarray(values + noise * values.std() * 0.1, np.float32)


CASES: dict[str, tuple[Callable[[Array], Array], Defect]] = {
    "zeros": (lambda a: a * 0, Defect.ZEROED),
    "offset": (lambda a: a + 1, Defect.OFFSET),
    "scaled": (lambda a: a * np.float32(1.5), Defect.SCALED),
    "negated": (lambda a: -a, Defect.SIGN),
    "transposed": (lambda a: a.T.copy(), Defect.TRANSPOSED),
    "shifted": (lambda a: np.roll(a, 1, axis=0), Defect.SHIFTED),
    "heads": (lambda a: a.reshape(4, 8, 48)[[1, 0, 3, 2]].reshape(32, 48), Defect.HEADS),
    "rope": (
        lambda a: a.reshape(4, 2, 4, 48).swapaxes(1, 2).reshape(32, 48),
        Defect.ROPE,
    ),
    "rows": (lambda a: a[[5, *range(1, 5), 0, *range(6, 32)]], Defect.ROWS),
    "columns": (lambda a: a[:, [5, *range(1, 5), 0, *range(6, 48)]], Defect.COLUMNS),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("quantized", [False, True])
def test_the_kind_is_told_from_the_values(name: str, quantized: bool) -> None:
    change, expected = CASES[name]
    changed = change(matrix())
    if quantized and changed.any():
        changed = noisy(changed)

    found = explain(matrix(), changed, limit=0.02 if quantized else 0.0, heads=HEADS)

    assert found is not None
    assert found[0] is expected, found


def test_what_nothing_explains_is_told_by_its_place() -> None:
    a = matrix()
    part, dead, columns = a.copy(), a.copy(), a.copy()
    part[4:8] = 0.3
    dead[4:8] = 0
    columns[:, 3:5] = 0

    assert partly(a, part, 0.0) == (Defect.PART, "holds other values in rows 4 to 7 (4 of 32)")
    assert partly(a, dead, 0.0) == (Defect.PART_ZEROED, "is zero in rows 4 to 7 (4 of 32)")
    assert partly(a, columns, 0.0) == (
        Defect.PART_ZEROED,
        "is zero in columns 3 to 4 (2 of 48)",
    )
    assert partly(a, a[::-1] * 2, 0.0)[0] is Defect.NOISE


def test_a_nan_is_told_before_all_else() -> None:
    changed = matrix() * 3
    changed[0, 0] = np.nan

    found = explain(matrix(), changed, limit=0.0, heads=None)

    assert found == (Defect.NOT_FINITE, "has 1 NaN or infinities among 1536 values")
