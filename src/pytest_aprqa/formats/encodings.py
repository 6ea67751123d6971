"""How the values of a tensor lie in bytes: every encoding's block, size, decoder and encoder.

Plain types by their safetensors names (https://github.com/huggingface/safetensors, tensor.rs),
GGML's blocks by GGML's names (https://github.com/ggml-org/ggml, ggml-common.h; the gguf package
holds sizes and decoders), APR's own two by `APR_` names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS, CheckpointError
from pytest_aprqa.formats.float8 import FLOAT8, float8_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

_Bytes = "np.ndarray[Any, Any]"


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way of writing values: `nbytes` for each `block` of consecutive values."""

    name: str
    block: int
    nbytes: int
    view: str | None = None
    """NumPy's type string of a plain value; None where values share a block's scale."""
    by_row: bool = True
    """True when each row (the last dimension) is encoded by itself."""

    @property
    def plain(self) -> bool:
        """True when each value stands alone and can be moved alone."""
        return self.view is not None


def _plain(name: str, view: str) -> Encoding:
    return Encoding(name, 1, int(view[-1]), view)


ENCODINGS: MappingProxyType[str, Encoding] = MappingProxyType(
    {
        encoding.name: encoding
        for encoding in (
            _plain("F32", "<f4"),
            _plain("F16", "<f2"),
            _plain("BF16", "<u2"),
            _plain("F64", "<f8"),
            _plain("I8", "<i1"),
            _plain("U8", "<u1"),
            _plain("I16", "<i2"),
            _plain("I32", "<i4"),
            _plain("I64", "<i8"),
            _plain("U16", "<u2"),
            _plain("U32", "<u4"),
            _plain("U64", "<u8"),
            _plain("BOOL", "<u1"),
            _plain("C64", "<c8"),
            *(_plain(name, "<u1") for name in FLOAT8),
            # Below a byte, values are packed over the whole tensor: moved as bytes, not decoded.
            Encoding("F4", 2, 1, by_row=False),
            Encoding("F6_E2M3", 4, 3, by_row=False),
            Encoding("F6_E3M2", 4, 3, by_row=False),
            Encoding("Q4_0", 32, 18),
            Encoding("Q4_1", 32, 20),
            Encoding("Q5_0", 32, 22),
            Encoding("Q5_1", 32, 24),
            Encoding("Q8_0", 32, 34),
            Encoding("Q2_K", 256, 84),
            Encoding("Q3_K", 256, 110),
            Encoding("Q4_K", 256, 144),
            Encoding("Q5_K", 256, 176),
            Encoding("Q6_K", 256, 210),
            # Blocks that files in the wild have: read where the gguf package decodes them.
            Encoding("Q8_1", 32, 40),
            Encoding("Q8_K", 256, 292),
            Encoding("Q1_0", 128, 18),
            Encoding("IQ1_S", 256, 50),
            Encoding("IQ1_M", 256, 56),
            Encoding("IQ2_XXS", 256, 66),
            Encoding("IQ2_XS", 256, 74),
            Encoding("IQ2_S", 256, 82),
            Encoding("IQ3_XXS", 256, 98),
            Encoding("IQ3_S", 256, 110),
            Encoding("IQ4_NL", 32, 18),
            Encoding("IQ4_XS", 256, 136),
            Encoding("TQ1_0", 256, 54),
            Encoding("TQ2_0", 256, 66),
            Encoding("MXFP4", 32, 17),
            Encoding("NVFP4", 64, 36),
            # APR's blocks of 32 run over the whole tensor, across its rows.
            Encoding("APR_Q4", 32, 18, by_row=False),
            # One float32 scale, then one signed byte for each value.
            Encoding("APR_Q8", 1, 1, by_row=False),
        )
    }
)
"""Every encoding that tensors are read and written in, by name."""

FLOATS = ("F32", "F16", "BF16")
"""The plain encodings that weights are kept in."""
SAFETENSORS_ONLY = (
    *("U16", "U32", "U64", "BOOL", "C64", "F4", "F6_E2M3", "F6_E3M2"),
    *FLOAT8,
)
"""What neither GGUF nor APR has."""
_UNDECODED = ("C64", "F4", "F6_E2M3", "F6_E3M2")


def encoding_of(name: str) -> Encoding:
    """The encoding of that name.

    Raises:
        CheckpointError: when there is none.
    """
    try:
        return ENCODINGS[name]
    except KeyError:
        known = ", ".join(ENCODINGS)
        raise CheckpointError(f"unknown encoding {name!r:.40}; expected one of {known}") from None


def fits(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape can be written so: whole blocks in each row."""
    encoding = encoding_of(name)
    return (
        encoding.block == 1 or not encoding.by_row or (shape[-1:] or (1,))[0] % encoding.block == 0
    )


def nbytes_of(name: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of this shape.

    Raises:
        CheckpointError: when its rows are no whole number of blocks.
    """
    encoding = encoding_of(name)
    if not fits(name, shape):
        raise CheckpointError(
            f"{name} takes rows of a multiple of {encoding.block} values, not {list(shape)}"
        )
    values = math.prod(shape)
    if name == "APR_Q8":
        return 4 + values if values else 0
    return -(-values // encoding.block) * encoding.nbytes


def rows_of(name: str, data: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Stored bytes as one line for each row: uint8 [product of shape[:-1], bytes of a row].

    Raises:
        CheckpointError: when the encoding does not keep rows apart.
    """
    if not encoding_of(name).by_row:
        raise CheckpointError(f"{name} does not encode row by row; decode it first")
    rows = math.prod(shape[:-1])
    return data.reshape(rows, nbytes_of(name, shape) // rows if rows else 0)


def decode(name: str, data: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The values as float32 in `shape`, from all of a tensor's bytes (flat uint8).

    Raises:
        CheckpointError: as `decoded_chunks`.
    """
    import numpy as np

    values = np.empty(math.prod(shape), np.float32)
    begin = 0
    for piece in decoded_chunks(name, data, shape):
        values[begin : begin + piece.size] = piece
        begin += piece.size
    return values.reshape(shape)


def decoded_chunks(
    name: str, data: np.ndarray[Any, Any], shape: tuple[int, ...]
) -> Iterator[np.ndarray[Any, Any]]:
    """The values as flat float32 pieces of at most 2**20 values, in storage order.

    Raises:
        CheckpointError: when there are more or fewer bytes than the shape takes (rows that are
            padded, as some APR files have them), or float32 cannot hold such values.
    """
    import numpy as np

    encoding, total = encoding_of(name), math.prod(shape)
    if data.size != (expected := nbytes_of(name, shape)):
        raise CheckpointError(f"{data.size} bytes of {name} {list(shape)}; expected {expected}")
    if name in _UNDECODED:
        raise CheckpointError(f"{name} cannot be read as float32; expected only its bytes to be")
    if name == "APR_Q8":
        scale = data[:4].view("<f4")[0] if total else np.float32(1)
        codes = data[4:].view("<i1")
        for start in range(0, total, CHUNK_ELEMENTS):
            with np.errstate(all="ignore"):
                piece = codes[start : start + CHUNK_ELEMENTS].astype(np.float32) * scale
            yield piece
        return
    step = CHUNK_ELEMENTS // encoding.block * encoding.nbytes  # a power of two of whole blocks
    left = total
    for start in range(0, data.size, step):
        with np.errstate(all="ignore"):  # damaged scales and huge values: infinite, no error
            piece = _decode_blocks(encoding, data[start : start + step])
        yield piece[:left]
        left -= piece.size


def _decode_blocks(encoding: Encoding, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whole blocks as float32."""
    import numpy as np

    if encoding.name == "BF16":  # the upper half of a float32
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if encoding.name == "BOOL":
        there: np.ndarray[Any, Any] = data != 0
        return there.astype(np.float32)
    if encoding.name in FLOAT8:
        return np.take(float8_values(encoding.name), data)
    if encoding.view is not None:
        return data.view(encoding.view).astype(np.float32)
    if encoding.name == "APR_Q4":
        blocks = data.reshape(-1, 18)
        scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
        codes = blocks[:, 2:]
        pairs = np.stack((codes & 15, codes >> 4), axis=-1).reshape(len(blocks), 32)
        return ((pairs.astype(np.float32) - 8) * scale).reshape(-1)
    return _decode_ggml(encoding, data)


def _decode_ggml(encoding: Encoding, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import gguf
    import numpy as np

    blocks = data.reshape(-1, encoding.nbytes)
    try:
        with np.errstate(all="ignore"):  # damaged scales may be infinite: values, not an error
            values: np.ndarray[Any, Any] = gguf.quants.dequantize(
                blocks, gguf.GGMLQuantizationType[encoding.name]
            )
    except (NotImplementedError, KeyError) as error:
        raise CheckpointError(
            f"the values of {encoding.name} cannot be read: the gguf package has no decoder for it"
        ) from error
    return values.reshape(-1)


def encode(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float32 values (any shape) as stored bytes, flat uint8; rounding to nearest, ties to even.

    Raises:
        CheckpointError: when only llama.cpp's quantizer writes this encoding, or none does, or a
            value is beyond its range (a float32 that would become infinite as F16).
    """
    import numpy as np

    values = np.ascontiguousarray(values, np.float32)
    if name == "F16":
        return _half(values).reshape(-1).view(np.uint8)
    if name == "BF16":
        return _bfloat(values).reshape(-1).view(np.uint8)
    if name == "F32":
        return values.reshape(-1).view(np.uint8)
    if name == "APR_Q8":
        return _apr_q8(values.reshape(-1))
    if name == "APR_Q4":
        return _apr_q4(values.reshape(-1))
    if encoding_of(name).plain or name in SAFETENSORS_ONLY:
        raise CheckpointError(f"{name} is read only; expected {', '.join(FLOATS)} to write")
    raise CheckpointError(f"{name} is written by llama.cpp's quantizer only")


def _half(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if (np.isinf(half) & np.isfinite(values)).any():
        largest = float(np.abs(values[np.isfinite(values)]).max())
        raise CheckpointError(f"F16 cannot hold {largest:g}; its largest value is 65504; use BF16")
    return half


def _bfloat(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    bits = values.reshape(-1).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    quiet = ((bits >> 16) | 0x40).astype("<u2")  # rounding must not make an infinity of a NaN
    return np.where(np.isnan(values.reshape(-1)), quiet, rounded)


def _apr_q8(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale max|x|/127 (1 when all are zero); codes rounded half away from zero to ±127."""
    import numpy as np

    if not values.size:
        return np.empty(0, np.uint8)
    _require_finite("APR_Q8", values)
    slices = [slice(i, i + CHUNK_ELEMENTS) for i in range(0, values.size, CHUNK_ELEMENTS)]
    largest = max(np.abs(values[part]).max() for part in slices)
    scale = np.float32(largest / np.float32(127)) if largest > 0 else np.float32(1)
    made = np.empty(4 + values.size, np.uint8)
    made[:4] = np.array([scale], "<f4").view(np.uint8)
    codes = made[4:].view(np.int8)
    for part in slices:  # no copy of a whole matrix beside it
        codes[part] = np.clip(_round_away(values[part] / scale), -127, 127)
    return made


def _apr_q4(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Blocks of 32: scale max|x|/7 as half float, codes -8 to 7 plus 8, element 2i in low bits."""
    import numpy as np

    _require_finite("APR_Q4", values)
    if values.size > CHUNK_ELEMENTS:  # whole blocks, so the pieces are the whole
        parts = range(0, values.size, CHUNK_ELEMENTS)
        return np.concatenate([_apr_q4(values[i : i + CHUNK_ELEMENTS]) for i in parts])
    blocks = np.zeros((-(-values.size // 32), 32), np.float32)
    blocks.reshape(-1)[: values.size] = values
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(7), np.float32(1)).astype(np.float32)
    with np.errstate(over="ignore"):
        half = scale.astype("<f2")
    if not np.isfinite(half).all():
        raise CheckpointError(
            f"APR_Q4 cannot hold {float(largest.max()):g}: its scale, a seventh of that, is a "
            f"half float of at most 65504; use APR_Q8"
        )
    codes = np.clip(_round_away(blocks / scale), -8, 7).astype(np.int8) + 8
    pairs = codes.astype(np.uint8).reshape(len(blocks), 16, 2)
    packed = pairs[:, :, 0] | (pairs[:, :, 1] << 4)
    return np.concatenate((half.view(np.uint8), packed), axis=1).reshape(-1)


def _require_finite(name: str, values: np.ndarray[Any, Any]) -> None:
    """One NaN or infinity would make every value that shares its scale meaningless."""
    import numpy as np

    finite = np.isfinite(values)
    if not finite.all():
        raise CheckpointError(
            f"{name} cannot hold {float(values[~finite][0])}; expected finite values"
        )


def _round_away(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    rounded: np.ndarray[Any, Any] = np.trunc(values + np.copysign(np.float32(0.5), values))
    return rounded
