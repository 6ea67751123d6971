"""Bytes of a GGUF file that were changed, which the gates over its layout catch."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.files.planting_bytes import damaged, healthy, tensor_entry
from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.domain.model import Format, Quantization

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.files.planting_bytes import Maker

_HEALTHY = healthy(Format.GGUF, Quantization.Q8_0)
_UP = "blk.1.ffn_up.weight"
# After a matrix' name: its rank, two dimensions, its type, its offset.
_TYPE, _OFFSET = 4 + 16, 4 + 16 + 4


def _with(change: Callable[[bytearray], object]) -> Maker:
    return damaged(Format.GGUF, change, Quantization.Q8_0)


def _version(data: bytearray) -> None:
    data[4:8] = struct.pack("<I", 1)


def _counts(data: bytearray) -> None:
    struct.pack_into("<Q", data, 8, 10_000)


def _renamed(data: bytearray) -> None:
    """Layer 2's up projection takes the name of layer 1's."""
    place = tensor_entry(data, "blk.2.ffn_up.weight")
    data[place - len(_UP) : place] = _UP.encode()


def _long_name(data: bytearray) -> None:
    """64 bytes of name; the padding before the data gives or takes what is needed."""
    place = tensor_entry(data, _UP)
    start = place - len(_UP) - 8
    long = _UP.encode().ljust(64, b"x")
    entries_end = tensor_entry(data, _last(data)) + _OFFSET + 8
    data_start = -(-entries_end // 32) * 32
    head = data[:start] + struct.pack("<Q", 64) + long + data[place:entries_end]
    padding = bytes(-len(head) % 32)
    data[:] = head + padding + data[data_start:]


def _last(data: bytearray) -> str:
    """The name of the last tensor that the header describes; a matrix or a vector."""
    from pytest_aprqa.checks.gates.proof import EMBEDDED
    from pytest_aprqa.formats.gguf_header import read_header

    return read_header(EMBEDDED, bytes(data)).entries[-1].name


def _type(data: bytearray) -> None:
    struct.pack_into("<I", data, tensor_entry(data, _UP) + _TYPE, 9_999)


def _partial_block(data: bytearray) -> None:
    """Rows of 248 values in blocks of 32."""
    struct.pack_into("<Q", data, tensor_entry(data, _UP) + 4, 248)


def _shifted(data: bytearray) -> None:
    """A tensor that ends 8 bytes earlier, and begins there too."""
    place = tensor_entry(data, _UP) + _OFFSET
    (offset,) = struct.unpack_from("<Q", data, place)
    struct.pack_into("<Q", data, place, offset + 8)
    rows = tensor_entry(data, _UP) + 4 + 8
    (count,) = struct.unpack_from("<Q", data, rows)
    struct.pack_into("<Q", data, rows, count - 1)


def _cut(data: bytearray) -> None:
    del data[-1000:]


def _onto_another(data: bytearray) -> None:
    place = tensor_entry(data, _UP) + _OFFSET
    (offset,) = struct.unpack_from("<Q", data, place)
    struct.pack_into("<Q", data, place, offset - 3200)


PROOFS = (
    Proof("F-GGUF-FORMAT-001", "a version that no program reads", _with(_version), _HEALTHY),
    Proof("F-GGUF-COUNT-001", "a count of tensors beyond those described", _with(_counts),
          _HEALTHY),
    Proof("F-GGUF-UNIQUE-001", "two tensors of one name", _with(_renamed), _HEALTHY),
    Proof("F-GGUF-NAME-001", "a name of 64 bytes", _with(_long_name), _HEALTHY),
    Proof("F-GGUF-FORMAT-002", "a tensor of an unknown type", _with(_type), _HEALTHY),
    Proof("F-GGUF-BLOCK-001", "rows of 248 values in blocks of 32", _with(_partial_block),
          _HEALTHY),
    Proof("F-GGUF-FORMAT-003", "a tensor 8 bytes behind where it may begin", _with(_shifted),
          _HEALTHY),
    Proof("F-GGUF-OFFSET-001", "a file without its last 1000 bytes", _with(_cut), _HEALTHY),
    Proof("F-GGUF-OVERLAP-001", "a tensor that begins inside of the one before",
          _with(_onto_another), _HEALTHY),
)  # fmt: skip
