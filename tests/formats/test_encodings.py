"""Every encoding against llama.cpp's own dequantization, torch's rounding, or a formula by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS, CheckpointError
from pytest_aprqa.formats.encodings import (
    ENCODINGS,
    SAFETENSORS_ONLY,
    decode,
    decoded_chunks,
    encode,
    encoding_of,
    fits,
    nbytes_of,
    rows_of,
)
from pytest_aprqa.formats.gguf_field import float32, string, uint32
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.safetensors import DTYPE_BITS
from pytest_aprqa.formats.tensor import Tensor

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]
LISTED_ONLY = ("Q8_1", "Q8_K", "Q1_0")
BLOCKS = [
    name
    for name, encoding in ENCODINGS.items()
    if name not in (*SAFETENSORS_ONLY, *LISTED_ONLY)
    and not encoding.plain
    and not name.startswith("APR_")
]
COLUMNS, ROWS = 512, 16


def random_bytes(name: str, count: int) -> Array:
    values = np.random.default_rng(7).integers(0, 256, nbytes_of(name, (count,)), dtype=np.uint8)
    return values.astype(np.uint8)


def finite_blocks(tensor: str, name: str) -> Tensor:
    """Random blocks without the infinite scales that llama.cpp's quantizer refuses."""
    encoding, wanted = ENCODINGS[name], ROWS * COLUMNS
    blocks = random_bytes(name, 2 * wanted).reshape(-1, encoding.nbytes)
    values = decode(name, blocks.reshape(-1), (len(blocks), encoding.block))
    usable = blocks[np.isfinite(values).all(axis=1)][: wanted // encoding.block].reshape(-1)
    assert usable.size == nbytes_of(name, (ROWS, COLUMNS))
    return Tensor(tensor, name, (ROWS, COLUMNS), lambda: usable)


def test_block_sizes_are_ggmls() -> None:
    shared = [name for name in ENCODINGS if name in gguf.GGMLQuantizationType.__members__]
    assert len(shared) >= 28
    for name in shared:
        size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
        assert (ENCODINGS[name].block, ENCODINGS[name].nbytes) == size, name
    assert {kind.name for kind in gguf.GGML_QUANT_SIZES} <= set(ENCODINGS)


def test_ggml_blocks_decode_as_llama_cpp_does(tmp_path: Path) -> None:
    """Random blocks of every type, widened to F32 by llama.cpp, equal our values bit for bit."""
    import cyllama.llama.llama_cpp as library

    names = [*BLOCKS, "F16", "BF16"]
    tensors = [finite_blocks(f"blk.{i}.ffn_down.weight", name) for i, name in enumerate(names)]
    fields = {
        "general.architecture": string("llama"),
        "llama.block_count": uint32(len(names)),
        "llama.context_length": uint32(32),
        "llama.embedding_length": uint32(ROWS),
        "llama.feed_forward_length": uint32(COLUMNS),
        "llama.attention.head_count": uint32(1),
        "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
    }
    source, target = tmp_path / "blocks.gguf", tmp_path / "f32.gguf"
    write_gguf(source, fields=fields, tensors=tensors)
    library.disable_logging()
    library.llama_backend_init()
    options = library.LlamaModelQuantizeParams()
    options.ftype, options.nthread, options.allow_requantize = 0, 1, True
    library.model_quantize(str(source), str(target), options)
    theirs = GgufFile.open(target)
    for tensor in tensors:
        assert theirs.tensors[tensor.name].dtype == "F32"
        expected = theirs.bytes_of(tensor.name).view("<f4")
        found = tensor.values().reshape(-1)
        same = found.view(np.uint32) == expected.view(np.uint32)
        assert same.all(), f"{tensor.encoding}: {(~same).sum()} values differ"


@pytest.mark.parametrize("name", LISTED_ONLY)
def test_undecodable_blocks_are_told(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"the values of {name} cannot be read: the gguf pac"):
        decode(name, random_bytes(name, 256), (256,))


def test_large_tensors_come_in_bounded_chunks() -> None:
    for name in ("Q4_0", "APR_Q4", "APR_Q8", "F16"):
        count = CHUNK_ELEMENTS + 64
        pieces = list(decoded_chunks(name, np.zeros(nbytes_of(name, (count,)), np.uint8), (count,)))
        assert [piece.size for piece in pieces] == [CHUNK_ELEMENTS, 64], name


@pytest.mark.parametrize("name", [*BLOCKS, "APR_Q4", "APR_Q8", "F32", "F16", "BF16", "I8", "F64"])
def test_no_values(name: str) -> None:
    assert nbytes_of(name, (0, 256)) == 0
    assert decode(name, np.empty(0, np.uint8), (0, 256)).shape == (0, 256)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("F8_E4M3", "float8_e4m3fn"),
        ("F8_E5M2", "float8_e5m2"),
        ("F8_E4M3FNUZ", "float8_e4m3fnuz"),
        ("F8_E5M2FNUZ", "float8_e5m2fnuz"),
        ("F8_E8M0", "float8_e8m0fnu"),
    ],
)
def test_every_byte_of_a_float8_is_what_torch_makes_of_it(name: str, kind: str) -> None:
    import torch

    patterns = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(patterns.copy()).view(getattr(torch, kind)).float().numpy()
    found = decode(name, patterns, (16, 16)).reshape(-1)
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(found), nan)
    assert np.array_equal(found[~nan].view(np.uint32), expected[~nan].view(np.uint32))


def test_whole_numbers_and_truths_decode() -> None:
    for name, kind in (("U16", "<u2"), ("U32", "<u4"), ("U64", "<u8")):
        stored = np.array([0, 1, 40_000], kind).view(np.uint8)
        assert decode(name, stored, (3,)).tolist() == [0, 1, 40_000]
    assert decode("BOOL", np.array([0, 1], np.uint8), (2,)).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["C64", "F4", "F6_E2M3", "F6_E3M2"])
def test_values_beyond_float32_are_told(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name} cannot be read as float32; expected only"):
        decode(name, np.zeros(nbytes_of(name, (3, 4)), np.uint8), (3, 4))


def test_what_only_safetensors_has_is_written_by_nobody() -> None:
    assert set(DTYPE_BITS) <= set(ENCODINGS)
    for name in DTYPE_BITS:
        assert nbytes_of(name, (3, 8)) * 8 == 3 * 8 * DTYPE_BITS[name]
    for name in SAFETENSORS_ONLY:
        assert name in DTYPE_BITS
        with pytest.raises(CheckpointError, match=f"{name} is read only; expected F32, F16, BF16"):
            encode(name, np.zeros(4, np.float32))


def test_rows_that_are_padded_are_no_shorter_tensor() -> None:
    """Four rows of 100 values, each padded to one block: the first 400 values would be wrong."""
    padded = random_bytes("Q4_K", 4 * 256)
    with pytest.raises(CheckpointError, match="Q4_K takes rows of a multiple of 256 values"):
        list(decoded_chunks("Q4_K", padded, (4, 100)))
    for name, data, shape in (("Q4_0", 36, (1, 32)), ("F16", 6, (2,)), ("APR_Q8", 9, (4,))):
        told = f"{data} bytes of {name} .*; expected {nbytes_of(name, shape)}"
        with pytest.raises(CheckpointError, match=told):
            list(decoded_chunks(name, np.zeros(data, np.uint8), shape))


def test_every_half_pattern_comes_back() -> None:
    patterns = np.arange(1 << 16, dtype="<u2")
    for name, nan in (
        ("BF16", (patterns & 0x7FFF) > 0x7F80),
        ("F16", (patterns & 0x7FFF) > 0x7C00),
    ):
        values = decode(name, patterns.view(np.uint8), patterns.shape)
        back = encode(name, values).view("<u2")
        assert np.array_equal(back[~nan], patterns[~nan])
        assert np.isnan(decode(name, back[nan].view(np.uint8), (int(nan.sum()),))).all()
        assert np.array_equal(np.isnan(values), nan)


def test_rounding_is_torchs() -> None:
    import torch

    bits = np.random.default_rng(3).integers(0, 1 << 32, 200_000, dtype=np.uint64)
    ties = (np.arange(1 << 16, dtype=np.uint64) << 16) | 0x8000
    values = np.concatenate((bits, ties)).astype(np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    with_torch = torch.from_numpy(values.copy())
    expected = with_torch.to(torch.bfloat16).view(torch.int16).numpy().view("<u2")
    assert np.array_equal(encode("BF16", values).view("<u2"), expected)
    small = values[np.abs(values) < 65520]
    expected = torch.from_numpy(small.copy()).to(torch.float16).view(torch.int16).numpy()
    assert np.array_equal(encode("F16", small).view("<u2"), expected.view("<u2"))


def test_what_f16_cannot_hold_is_refused() -> None:
    assert encode("F16", np.array([65519, np.inf], np.float32)).view("<f2").tolist() == [
        65504,
        math.inf,
    ]
    with pytest.raises(CheckpointError, match=r"F16 cannot hold 65520; its largest value is 65504"):
        encode("F16", np.array([1, -65520, np.inf], np.float32))
    infinite = encode("BF16", np.array([np.inf, -np.inf], np.float32)).view("<u2")
    assert infinite.tolist() == [0x7F80, 0xFF80]


def test_apr_q8_golden_bytes() -> None:
    # The scale is 254/127 = 2; 3/2 = 1.5 and -1/2 = -0.5 are rounded away from zero.
    stored = encode("APR_Q8", np.array([[254, 3, -1], [0, -254, 0.9]], np.float32))
    assert stored.tobytes() == b"\x00\x00\x00\x40" + b"\x7f\x02\xff\x00\x81\x00"
    assert decode("APR_Q8", stored, (2, 3)).tolist() == [[254, 4, -2], [0, -254, 0]]
    zero = encode("APR_Q8", np.zeros(2, np.float32))
    assert zero.tobytes() == b"\x00\x00\x80\x3f\x00\x00"


def test_apr_q4_golden_bytes() -> None:
    # The scale is 14/7 = 2 (0x4000 as half); codes are x/2 rounded away from zero, plus 8.
    values = np.zeros((3, 11), np.float32)  # 33 values: the second block holds one
    values.reshape(-1)[:4] = [14, -14, 1, -5]
    values[2, 10] = -7
    stored = encode("APR_Q4", values)
    first = b"\x00\x40" + b"\x1f\x59" + b"\x88" * 14
    second = b"\x00\x3c" + b"\x81" + b"\x88" * 15
    assert stored.tobytes() == first + second
    found = decode("APR_Q4", stored, (3, 11))
    assert found.reshape(-1)[:4].tolist() == [14, -14, 2, -6]
    assert found[2, 10] == -7


@pytest.mark.parametrize("name", ["APR_Q8", "APR_Q4"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_apr_blocks_take_finite_values_only(name: str, bad: float) -> None:
    with pytest.raises(CheckpointError, match=f"{name} cannot hold {bad}; expected finite values"):
        encode(name, np.array([1, bad], np.float32))


def test_apr_q4_scale_must_fit_half() -> None:
    with pytest.raises(CheckpointError, match="APR_Q4 cannot hold 458752: its scale"):
        encode("APR_Q4", np.array([458752], np.float32))


FLOATS = arrays(
    np.float32,
    st.integers(1, 70),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


@given(FLOATS)
@settings(max_examples=60, deadline=None)
def test_apr_q8_error_is_at_most_half_a_step(values: Array) -> None:
    stored = encode("APR_Q8", values)
    scale = float(stored[:4].view("<f4")[0])
    error = np.abs(decode("APR_Q8", stored, values.shape).astype(float) - values)
    assert error.max() <= scale / 2 * (1 + 1e-4)


@given(FLOATS)
@settings(max_examples=60, deadline=None)
def test_apr_q4_error_is_at_most_half_a_step(values: Array) -> None:
    stored = encode("APR_Q4", values)
    error = np.abs(decode("APR_Q4", stored, values.shape).astype(float) - values)
    for block in range(0, values.size, 32):
        largest = float(np.abs(values[block : block + 32]).max())
        # Half a step; the half-precision scale moves the outermost code by 7 roundings.
        rounding = 2.0**-11 * largest + 7 * 2.0**-25
        assert error[block : block + 32].max() <= largest / 14 * (1 + 1e-4) + rounding


def test_shapes_and_sizes() -> None:
    assert nbytes_of("Q4_K", (3, 512)) == 3 * 2 * 144
    assert nbytes_of("APR_Q4", (3, 11)) == 36
    assert nbytes_of("APR_Q8", (3, 11)) == 37
    assert nbytes_of("F32", ()) == 4
    assert not fits("Q4_0", (32, 31))
    assert fits("APR_Q4", (32, 31))
    with pytest.raises(
        CheckpointError, match=r"Q4_0 takes rows of a multiple of 32 values, not \["
    ):
        nbytes_of("Q4_0", (32, 31))
    with pytest.raises(CheckpointError, match="unknown encoding 'Q9_9'; expected one of F32, F16"):
        encoding_of("Q9_9")
    with pytest.raises(CheckpointError, match=r"Q6_K is written by llama\.cpp's quantizer only"):
        encode("Q6_K", np.zeros(256, np.float32))
    assert rows_of("Q4_0", np.zeros(36, np.uint8), (2, 32)).shape == (2, 18)
    assert rows_of("Q4_0", np.zeros(0, np.uint8), (0, 32)).shape == (0, 0)
    with pytest.raises(CheckpointError, match="APR_Q8 does not encode row by row; decode it first"):
        rows_of("APR_Q8", np.zeros(6, np.uint8), (1, 2))
