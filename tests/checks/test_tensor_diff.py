from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_aprqa.checks.tensor_diff import Outcome, TensorDiff, TensorResult, diff_tensors
from pytest_aprqa.domain.tolerance import Tolerance
from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS
from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.tensor import Tensor

EXACT = Tolerance(atol=0.0, rtol=0.0)
Values = np.ndarray[Any, Any]


def tensor(values: Any, encoding: str = "F32", name: str = "w") -> Tensor:
    """A tensor of these values; encodings beyond float32 are stored in their own kind."""
    if encoding in ("F64", "I64"):
        own = np.asarray(values, {"F64": "<f8", "I64": "<i8"}[encoding])
        return Tensor(name, encoding, own.shape, lambda: own.reshape(-1).view(np.uint8))
    array = np.asarray(values, np.float32)
    return Tensor(name, encoding, array.shape, lambda: encode(encoding, array))


def compared(a: Tensor, b: Tensor, tolerance: Tolerance = EXACT) -> TensorResult:
    (result,) = diff_tensors([a], [b], tolerance=tolerance).results
    return result


def some_values(*shape: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("encoding", ["F32", "F16", "BF16", "APR_Q8", "APR_Q4", "F64"])
def test_the_same_bytes_are_identical(encoding: str) -> None:
    values = some_values(5, 7)
    result = compared(tensor(values, encoding), tensor(values.copy(), encoding))
    assert (result.outcome, result.passed, result.sizes) == (Outcome.IDENTICAL, True, None)
    assert result.told() == f"w: identical ({encoding})"


def test_equal_values_in_another_encoding_are_equal() -> None:
    values = np.array([[0.5, -2.0], [0.25, 8.0]], np.float32)
    result = compared(tensor(values, "F32"), tensor(values, "BF16"))
    assert result.outcome is Outcome.EQUAL
    assert result.passed
    assert result.encoding_differs
    assert result.told() == "w: equal (F32 and BF16)"
    assert result.sizes is not None
    assert (result.sizes.max_abs, result.sizes.nmse, result.sizes.cosine) == (0.0, 0.0, 1.0)


def test_minus_zero_is_equal_to_zero() -> None:
    assert compared(tensor([0.0, 1.0]), tensor([-0.0, 1.0])).outcome is Outcome.EQUAL


def test_within_the_tolerance_the_sizes_of_the_error_are_given() -> None:
    result = compared(tensor([3.0, 4.0]), tensor([3.0, 4.5]), Tolerance(atol=0.5, rtol=0.0))
    assert result.outcome is Outcome.WITHIN
    assert result.passed
    assert result.first is None
    assert result.sizes is not None
    assert result.sizes.max_abs == 0.5
    assert result.sizes.rmse == pytest.approx(math.sqrt(0.25 / 2))
    assert result.sizes.nmse == pytest.approx(0.25 / 25)
    assert result.sizes.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))


def test_the_relative_tolerance_is_of_the_reference() -> None:
    relative = Tolerance(atol=0.0, rtol=0.5)
    assert compared(tensor([4.0]), tensor([2.0]), relative).outcome is Outcome.WITHIN
    assert compared(tensor([2.0]), tensor([4.0]), relative).outcome is Outcome.DIFFERS


def test_the_first_difference_is_told_with_both_values() -> None:
    a = some_values(3, 4)
    b = a.copy()
    b[1, 2], b[2, 0] = 9.0, 7.0
    a[1, 2] = 1.25
    result = compared(tensor(a), tensor(b), Tolerance(atol=1e-3, rtol=0.0))
    assert result.outcome is Outcome.DIFFERS
    assert result.first is not None
    assert (result.first.index, result.first.count, result.first.of) == ((1, 2), 2, 12)
    assert result.told().startswith(
        "w: differs at [1, 2]: 1.25 and 9; 2 of 12 values beyond the tolerance; largest error 7.75"
    )


def test_a_difference_beyond_the_first_chunk_has_its_true_index() -> None:
    a = np.zeros((3, CHUNK_ELEMENTS // 2), np.float32)
    b = a.copy()
    b[2, 5] = 1.0
    result = compared(tensor(a, "F32"), tensor(b, "BF16"))
    assert result.first is not None
    assert result.first.index == (2, 5)
    assert result.first.of == a.size


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ([NAN, 1.0], [NAN, 1.0], Outcome.IDENTICAL),
        ([NAN, -0.0], [NAN, 0.0], Outcome.EQUAL),
        ([NAN, 1.0], [0.0, 1.0], Outcome.DIFFERS),
        ([0.0, 1.0], [NAN, 1.0], Outcome.DIFFERS),
        ([NAN, 1.0], [1.0, NAN], Outcome.DIFFERS),
        ([INF, -0.0], [INF, 0.0], Outcome.EQUAL),
        ([INF], [-INF], Outcome.DIFFERS),
        ([INF], [1.0], Outcome.DIFFERS),
        ([1.0], [INF], Outcome.DIFFERS),
    ],
)
def test_what_is_not_finite_equals_only_its_like(
    a: list[float], b: list[float], outcome: Outcome
) -> None:
    generous = Tolerance(atol=1e30, rtol=1e30)
    assert compared(tensor(a), tensor(b), generous).outcome is outcome


def test_a_nan_leaves_the_sizes_of_the_error_to_the_other_places() -> None:
    result = compared(tensor([NAN, 3.0, 4.0]), tensor([2.0, 3.0, 4.0]))
    assert result.sizes is not None
    assert (result.sizes.max_abs, result.sizes.nmse) == (0.0, 0.0)
    assert result.told() == (
        "w: differs at [0]: nan and 2; 1 of 3 values beyond the tolerance; "
        "largest error 0, NMSE 0 (F32)"
    )


@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (2, 3, 5), (1, 6)])
@pytest.mark.parametrize("encodings", [("F32", "F32"), ("BF16", "F32"), ("F32", "APR_Q8")])
def test_a_transpose_is_recognised(shape: tuple[int, ...], encodings: tuple[str, str]) -> None:
    a = np.round(some_values(*shape) * 4) / 4
    b = np.ascontiguousarray(np.swapaxes(a, -1, -2))
    result = compared(
        tensor(a, encodings[0]), tensor(b, encodings[1]), Tolerance(atol=0.02, rtol=0.0)
    )
    assert result.outcome is Outcome.TRANSPOSED
    assert not result.passed
    assert f"w: transposed: {list(a.shape)} and {list(b.shape)}" in result.told()


def test_a_transpose_with_another_value_is_none() -> None:
    a = some_values(3, 5)
    b = np.ascontiguousarray(a.T)
    b[4, 2] += 1
    result = compared(tensor(a), tensor(b))
    assert result.outcome is Outcome.SHAPE
    assert result.told() == "w: shape mismatch: [3, 5] and [5, 3] (F32)"


def test_a_transpose_of_more_than_one_piece_is_recognised() -> None:
    a = some_values(700, 1600)
    assert a.size > CHUNK_ELEMENTS
    b = np.ascontiguousarray(a.T)
    assert compared(tensor(a), tensor(b)).outcome is Outcome.TRANSPOSED
    b[1599, 699] += 1
    assert compared(tensor(a), tensor(b)).outcome is Outcome.SHAPE


@pytest.mark.parametrize(("a", "b"), [((3,), (4,)), ((2, 3), (6,)), ((2, 3, 4), (4, 3, 2))])
def test_other_shapes_are_a_mismatch(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    result = compared(tensor(some_values(*a)), tensor(some_values(*b)))
    assert (result.outcome, result.passed) == (Outcome.SHAPE, False)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4)])
def test_a_single_number_and_nothing_compare(shape: tuple[int, ...]) -> None:
    values = np.ones(shape, np.float32)
    assert compared(tensor(values), tensor(values)).outcome is Outcome.IDENTICAL
    assert compared(tensor(values, "F32"), tensor(values, "F16")).outcome is Outcome.EQUAL


def test_values_beyond_float32_are_not_rounded() -> None:
    large = 2**53
    result = compared(tensor([large], "I64"), tensor([large + 1], "I64"))
    assert result.told().startswith("w: differs at [0]: 9007199254740992 and 9007199254740993;")
    fine = compared(tensor([1.0], "F64"), tensor([1.0 + 1e-12], "F64"))
    assert fine.told().startswith("w: differs at [0]: 1 and 1.000000000001;")
    huge = compared(tensor([1e300], "F64"), tensor([-1e300], "F64"))
    assert huge.sizes is not None
    assert (huge.sizes.max_abs, huge.sizes.rmse) == (2e300, math.inf)


def test_a_missing_tensor_on_either_side_is_told() -> None:
    shared, only_a, only_b = (tensor([1.0], name=name) for name in ("s", "a", "b"))
    found = diff_tensors([shared, only_a], [only_b, shared], tolerance=EXACT)
    assert [(r.name, r.outcome) for r in found.results] == [
        ("s", Outcome.IDENTICAL),
        ("a", Outcome.MISSING_B),
        ("b", Outcome.MISSING_A),
    ]
    assert not found.passed
    assert found.first_difference is found.results[1]
    assert found.summary() == (
        "3 tensors: 1 identical, 1 missing in A, 1 missing in B; first: a: missing in B (F32)"
    )


def test_the_summary_counts_what_is_in_another_encoding() -> None:
    a = [tensor([1.0, 2.0], name="x"), tensor([3.0], name="y")]
    b = [tensor([1.0, 2.0], "BF16", name="x"), tensor([3.0], name="y")]
    found = diff_tensors(a, b, tolerance=EXACT)
    assert found.passed
    assert found.first_difference is None
    assert found.summary() == "2 tensors: 1 identical, 1 equal; 1 in another encoding"


def test_nothing_compared_with_nothing_is_no_pass() -> None:
    found = diff_tensors([], [], tolerance=EXACT)
    assert found == TensorDiff(())
    assert not found.passed
    assert found.summary() == "no tensors on either side; expected at least one"


def test_the_worst_is_the_one_with_the_largest_error() -> None:
    a = [tensor([1.0], name="x"), tensor([1.0], name="y"), tensor([1.0], name="z")]
    b = [tensor([1.0], name="x"), tensor([1.5], name="y"), tensor([1.1], name="z")]
    worst = diff_tensors(a, b, tolerance=EXACT).worst
    assert worst is not None
    assert worst.name == "y"


def test_each_pair_is_given_back_before_the_next_is_read() -> None:
    held: list[str] = []
    most = 0

    def watched(name: str, side: str) -> Tensor:
        key = f"{side}{name}"

        def read() -> Values:
            nonlocal most
            held.append(key)
            most = max(most, len(held))
            return encode("F32", np.ones(1, np.float32))

        def done() -> None:
            if key in held:
                held.remove(key)

        return Tensor(name, "F32", (1,), read, done)

    names = ("x", "y", "z")
    told: list[tuple[str, int, int]] = []
    progress: Callable[[str, int, int], None] = lambda *step: told.append(step)  # noqa: E731
    diff_tensors(
        [watched(name, "a") for name in names],
        [watched(name, "b") for name in names],
        tolerance=EXACT,
        progress=progress,
    )
    assert (most, held) == (2, [])
    assert told == [("x", 1, 3), ("y", 2, 3), ("z", 3, 3)]


@settings(max_examples=60, deadline=None)
@given(
    a=arrays(np.float32, 6, elements=st.floats(-100, 100, width=32)),
    b=arrays(np.float32, 6, elements=st.floats(-100, 100, width=32)),
    atol=st.floats(0, 50),
)
def test_a_pair_passes_exactly_when_every_place_is_near(a: Values, b: Values, atol: float) -> None:
    near = np.abs(a.astype(np.float64) - b.astype(np.float64)) <= atol
    result = compared(tensor(a), tensor(b), Tolerance(atol=atol, rtol=0.0))
    assert result.passed == bool(near.all())
    if result.first is not None:
        assert result.first.index == (int(np.flatnonzero(~near)[0]),)
        assert result.first.count == int((~near).sum())
