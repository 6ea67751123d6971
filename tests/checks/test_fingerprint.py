from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks import fingerprint
from pytest_aprqa.checks.fingerprint import SCHEME, TensorFingerprint, fingerprint_tensors
from pytest_aprqa.conversion.families import huggingface_tensors, tensors_from_apr
from pytest_aprqa.formats.apr_writer import write_apr
from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS
from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.tensor import Tensor, tensors_of
from tests.checks.model_files import embedded_apr, embedded_gguf, embedded_source


def tensor(values: Any, encoding: str = "F32", name: str = "w") -> Tensor:
    """A tensor of these values; encodings beyond float32 are stored in their own kind."""
    kinds = {"F64": "<f8", "I64": "<i8", "I32": "<i4"}
    if encoding in kinds:
        own = np.asarray(values, kinds[encoding])
        return Tensor(name, encoding, own.shape, lambda: own.reshape(-1).view(np.uint8))
    array = np.asarray(values, np.float32)
    return Tensor(name, encoding, array.shape, lambda: encode(encoding, array))


def one(values: Any, encoding: str = "F32") -> TensorFingerprint:
    (found,) = fingerprint_tensors([tensor(values, encoding)]).tensors
    return found


def test_the_definition_of_the_content_is_followed() -> None:
    values = np.array([[1.0, -2.5, 0.0], [3.0, 4.0, 0.5]], np.float32)
    content = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
    lines = f"a\t2x3\tf4\t{content}\nb\t2x3\tf4\t{content}\n"
    found = fingerprint_tensors([tensor(values, name="b"), tensor(values, "BF16", name="a")])
    assert found.content == hashlib.sha256(lines.encode()).hexdigest()
    assert found.scheme == SCHEME == "aprqa-content-1"
    assert [t.name for t in found.tensors] == ["b", "a"]


def test_percentiles_are_those_of_the_values() -> None:
    values = np.random.default_rng(5).normal(0.0, 1.0, (300, 70)).astype(np.float32)
    expected = np.percentile(values.astype(np.float64), (1, 25, 50, 75, 99))
    assert one(values).percentiles == pytest.approx(tuple(expected), rel=1e-12)
    values[0, 0] = np.nan
    rest = values.reshape(-1)[1:].astype(np.float64)
    assert one(values).percentiles == pytest.approx(
        tuple(np.percentile(rest, (1, 25, 50, 75, 99))), rel=1e-12
    )
    assert one(np.full((2, 2), np.nan)).percentiles == ()
    assert one(np.empty((0, 4))).percentiles == ()


@pytest.mark.parametrize("pieces", [(1000,), (1, 999), (333, 333, 334), (7,) * 142 + (6,)])
def test_a_sample_is_the_same_in_whatever_pieces(
    pieces: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "SAMPLE", 130)
    values = np.random.default_rng(6).normal(size=1000)
    sample, start = fingerprint.Sample(1000), 0
    for piece in pieces:
        sample.add(values[start : start + piece])
        start += piece
    expected = np.percentile(values[::8], fingerprint.PERCENTS)
    assert sample.percentiles() == pytest.approx(tuple(expected), rel=1e-12)


def test_the_numbers_are_those_of_the_values() -> None:
    values = np.random.default_rng(3).normal(2.0, 3.0, (7, 11)).astype(np.float32)
    values[0, :4] = 0.0
    found = one(values)
    exact = values.astype(np.float64)
    assert found.sha256 == hashlib.sha256(values.tobytes()).hexdigest()
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert found.std == pytest.approx(exact.std(), rel=1e-12)
    assert (found.minimum, found.maximum) == (exact.min(), exact.max())
    assert found.zeros == 4 / 77
    assert found.not_finite == 0


def test_the_numbers_of_several_chunks_are_joined() -> None:
    values = np.random.default_rng(4).normal(1000.0, 0.5, CHUNK_ELEMENTS * 2 + 17)
    values = values.astype(np.float32)
    found = one(values)
    exact = values.astype(np.float64)
    assert found.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert found.std == pytest.approx(exact.std(), rel=1e-9)
    assert found.content == hashlib.sha256(values.tobytes()).hexdigest()


@pytest.mark.parametrize("encoding", ["F16", "BF16", "F64", "APR_Q8"])
def test_equal_values_have_one_content_in_every_encoding(encoding: str) -> None:
    values = np.array([-127.0, 0.0, 1.0, 64.0, 127.0], np.float32)
    assert one(values, encoding).content == one(values).content
    assert one(values, encoding).sha256 != one(values).sha256


@pytest.mark.parametrize("encoding", ["I32", "I64"])
def test_whole_numbers_that_float32_holds_are_taken_as_float32(encoding: str) -> None:
    found, single = one([1, -2, 3], encoding), one([1.0, -2.0, 3.0])
    assert (found.content, found.kind) == (single.content, "f4")


@pytest.mark.parametrize(
    ("values", "encoding", "kind"),
    [
        ([2**24 + 1], "I32", "i8"),
        ([2**62 + 1], "I64", "i8"),
        ([2**63 - 1], "I64", "i8"),
        ([-(2**63)], "I64", "f4"),
        ([0.1], "F64", "f8"),
        ([1e300], "F64", "f8"),
        ([math.nan, math.inf, -math.inf, 0.5], "F64", "f4"),
    ],
)
def test_what_float32_cannot_hold_stays_wider(values: Any, encoding: str, kind: str) -> None:
    assert one(values, encoding).kind == kind


def test_every_nan_and_both_zeros_are_alike() -> None:
    bits = np.array([0x7FC00000, 0x7F800001, 0xFFC12345, 0x80000000, 0x3F800000], "<u4")
    odd = Tensor("w", "F32", (5,), lambda: bits.view(np.uint8))
    (found,) = fingerprint_tensors([odd]).tensors
    plain = one([math.nan, math.nan, math.nan, 0.0, 1.0])
    assert found.content == plain.content
    assert found.sha256 != plain.sha256
    assert (found.not_finite, found.zeros, found.mean) == (3, 0.2, 0.5)


def test_without_a_finite_value_there_are_no_numbers() -> None:
    found = one([math.nan, math.inf])
    assert (found.mean, found.std, found.minimum, found.maximum) == (None, None, None, None)
    assert found.not_finite == 2


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_a_single_number_and_nothing_have_a_fingerprint(shape: tuple[int, ...]) -> None:
    found = one(np.ones(shape, np.float32))
    assert found.mean == (1.0 if shape == () else None)
    assert found.zeros == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (tensor([[1.0, 2.0]]), tensor([[1.0], [2.0]])),  # the shape
        (tensor([1.0], name="x"), tensor([1.0], name="y")),  # the name
        (tensor([1.0, 2.0]), tensor([1.0, np.nextafter(np.float32(2), np.float32(3))])),  # one bit
        (tensor([0.0, 1.0]), tensor([1.0, 0.0])),  # the order
    ],
)
def test_whatever_differs_changes_the_content(a: Tensor, b: Tensor) -> None:
    assert fingerprint_tensors([a]).content != fingerprint_tensors([b]).content


def test_the_order_of_the_tensors_does_not_matter() -> None:
    a, b = tensor([1.0], name="a"), tensor([2.0], name="b")
    told: list[tuple[str, int, int]] = []
    found = fingerprint_tensors([a, b], progress=lambda *step: told.append(step))
    assert found.content == fingerprint_tensors([b, a]).content
    assert told == [("a", 1, 2), ("b", 2, 2)]


def test_the_pages_of_each_tensor_are_given_back() -> None:
    given: list[str] = []
    data = encode("F32", np.ones(1, np.float32))
    watched = [Tensor(n, "F32", (1,), lambda: data, partial(given.append, n)) for n in "ab"]
    fingerprint_tensors(watched)
    assert given == ["a", "b"]


def test_the_content_is_the_same_in_all_three_formats(tmp_path: Path) -> None:
    config, _, source = embedded_source()
    fields, tensors = embedded_gguf()
    write_gguf(tmp_path / "m.gguf", fields=fields, tensors=tensors)
    metadata, tensors = embedded_apr()
    write_apr(tmp_path / "m.apr", metadata=metadata, tensors=tensors)
    gguf, apr = (tensors_of(open_checkpoint(tmp_path / name)) for name in ("m.gguf", "m.apr"))
    portable = [
        source,
        huggingface_tensors(config, gguf, {}),
        tensors_from_apr(config, apr, {}),
    ]
    contents = {fingerprint_tensors(found).content for found in portable}
    assert len(contents) == 1
    assert fingerprint_tensors(gguf).content not in contents  # as stored: other names
