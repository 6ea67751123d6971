from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aprqa.conversion.families.gguf_layout import made_tensor
from pytest_aprqa.conversion.families.links import Link, Part
from pytest_aprqa.conversion.families.moving import backward, forward, restored, returned
from pytest_aprqa.conversion.families.row_orders import paired
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.encodings import ENCODINGS, nbytes_of
from pytest_aprqa.formats.tensor import Tensor


def packed(name: str, encoding: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A tensor of random bytes."""
    size = nbytes_of(encoding, shape)
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    return Tensor(name, encoding, shape, lambda: data)


def test_paired_rows_are_the_published_example() -> None:
    assert paired(2, 6).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


BY_ROW = [name for name, encoding in ENCODINGS.items() if encoding.by_row]


@settings(max_examples=60, deadline=None)
@given(
    encoding=st.sampled_from(BY_ROW),
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    cuts=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_moving_there_and_back_is_bit_for_bit(
    encoding: str, rows: list[int], cuts: int, seed: int
) -> None:
    total = sum(rows)
    first = min(cuts, total)
    sizes = [first, total - first] if total > first else [total]
    link = Link(
        tuple(Part(f"s{i}", (count, 256)) for i, count in enumerate(rows)),
        tuple(Part(f"t{i}", (count, 256)) for i, count in enumerate(sizes)),
        256,
        np.random.default_rng(seed).permutation(total),
    )
    sources = [packed(p.name, encoding, p.shape, i) for i, p in enumerate(link.sources)]
    moved = forward(link, sources)
    assert {tensor.encoding for tensor in moved} == {encoding}
    lines = np.concatenate([tensor.read() for tensor in sources]).reshape(total, -1)
    there = np.concatenate([tensor.read() for tensor in moved]).reshape(total, -1)
    assert link.order is not None
    np.testing.assert_array_equal(there, lines[link.order])
    for source, back in zip(sources, backward(link, moved), strict=True):
        assert (back.name, back.shape) == (source.name, source.shape)
        np.testing.assert_array_equal(back.read(), source.read())


def test_each_source_is_given_back_when_it_is_read() -> None:
    done: list[str] = []

    def source(name: str) -> Tensor:
        tensor = packed(name, "F16", (2, 32))
        return Tensor(name, "F16", (2, 32), tensor.read, lambda: done.append(name))

    link = Link((Part("a", (2, 32)), Part("b", (2, 32))), (Part("t", (2, 2, 32)),), 32)
    (stacked,) = forward(link, [source("a"), source("b")])
    stacked.read()
    assert done == ["a", "b"]


@pytest.mark.parametrize(
    ("encoding", "unit"), [("APR_Q8", 64), ("APR_Q4", 64), ("Q4_K", 64), ("Q8_0", 16)]
)
def test_an_encoding_whose_pieces_hang_together_is_refused(encoding: str, unit: int) -> None:
    link = Link((Part("s", (4, 256)),), (Part("t", (4, 256)),), unit, np.arange(1024 // unit))
    with pytest.raises(ConversionError, match=f"tensor s: its rows are moved in pieces of {unit}"):
        forward(link, [packed("s", encoding, (4, 256))])


def test_one_expert_is_decoded_without_the_others() -> None:
    reads: list[int] = []
    data = packed("t", "Q8_0", (4, 2, 32)).read()

    def read() -> np.ndarray[Any, Any]:
        reads.append(data.size)
        return data

    parts = tuple(Part(f"s{each}", (2, 32)) for each in range(4))
    link = Link(parts, (Part("t", (4, 2, 32)),), 32)
    experts = returned(link, [Tensor("t", "Q8_0", (4, 2, 32), read)], {}, "F32")
    assert [expert.encoding for expert in experts] == ["F32"] * 4
    assert experts[2].read().size == 2 * 32 * 4
    assert reads == [data.size]


def test_parts_of_different_encodings() -> None:
    link = Link((Part("a", (2, 32)), Part("b", (2, 32))), (Part("t", (4, 32)),), 32)
    mixed = [packed("a", "Q8_0", (2, 32)), packed("b", "Q4_0", (2, 32))]
    with pytest.raises(ConversionError, match="but are encoded as Q4_0 and Q8_0; expected one"):
        forward(link, mixed)
    ones = np.ones((2, 32), np.float32)
    plain = [made_tensor("a", ones), made_tensor("b", 2 * ones).as_encoding("BF16")]
    (wide,) = forward(link, plain)
    assert wide.encoding == "F32"
    np.testing.assert_array_equal(wide.values(), np.concatenate((ones, 2 * ones)))


def test_a_value_that_does_not_come_back_is_an_error() -> None:
    exact = made_tensor("norm", np.array([1.5, -2.0, 0.25], np.float32))
    assert restored(exact, "BF16").encoding == "BF16"
    np.testing.assert_array_equal(restored(exact, "BF16").values(), exact.values())
    changed = restored(made_tensor("norm", np.array([1.0, 1.001], np.float32)), "BF16")
    with pytest.raises(ConversionError, match="its values no longer fit in BF16"):
        changed.read()
    quantized = packed("w", "Q4_0", (2, 32))
    assert restored(quantized, "BF16") is quantized


def test_one_plus_a_float32_weight_keeps_24_bits_and_settles() -> None:
    """Gemma's norms in F32 lose what lies below 2**-24; the second trip loses nothing."""
    weight = np.random.default_rng(1).standard_normal(64).astype(np.float32) * np.float32(0.3)
    link = Link((Part("s", (64,)),), (Part("t", (64,)),), 64, None, True, True)
    (there,) = forward(link, [made_tensor("s", weight)])
    (back,) = backward(link, [there])
    assert np.abs(back.values() - weight).max() <= 2**-24
    (again,) = forward(link, [back])
    np.testing.assert_array_equal(again.read(), there.read())


def test_a_transposed_part_has_its_last_two_dimensions_exchanged() -> None:
    assert Part("t", (3, 4, 5), True).straight == (3, 5, 4)
    assert Part("t", (3, 4, 5)).straight == (3, 4, 5)


def test_a_norm_that_was_kept_as_one_plus_itself_returns_to_its_dtype() -> None:
    bits = np.arange(0, 0x4080, 7, dtype=np.uint32) << 16  # bfloat16 values from 0 to 4
    weights = bits.view(np.float32)
    back = (weights + np.float32(1)) - np.float32(1)
    assert not np.array_equal(back, weights)  # float32 lost the last bits of small ones
    tensor = restored(made_tensor("norm", back), "BF16", rounded=True)
    np.testing.assert_allclose(tensor.values(), weights, atol=2.0**-23, rtol=0)
    large = weights >= 2.0**-14
    np.testing.assert_array_equal(tensor.values()[large], weights[large])
    changed = made_tensor("norm", np.array([0.5001], np.float32))
    with pytest.raises(ConversionError, match=r"tensor norm: its values no longer fit in BF16"):
        restored(changed, "BF16", rounded=True).read()
