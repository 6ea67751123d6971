"""Bytes and fields of an APR file that were changed, its checksums made to fit again."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting_bytes import damaged, healthy
from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.formats.apr_header import AprHeader, aligned, header_checksum

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.files.planting_bytes import Maker

_HEALTHY = healthy(Format.APR, Quantization.Q8_0)
_UP = "model.layers.1.mlp.up_proj.weight"
_FLAGS, _COUNT, _CHECKSUM = 6, 8, 40
# After a matrix' name: its code, its rank, two dimensions, its offset, its bytes.
_OFFSET = 2 + 16


def _changed(change: Callable[[bytearray], object], *, seal: bool = True) -> Maker:
    """The q8_0 file, edited; sealed: with both checksums made anew."""

    def edit(data: bytearray) -> None:
        change(data)
        if seal:
            struct.pack_into("<I", data, _CHECKSUM, header_checksum(bytes(data[:64])))
            struct.pack_into("<I", data, len(data) - 4, zlib.crc32(data[:-4]))

    return damaged(Format.APR, edit, Quantization.Q8_0)


def _entry(data: bytearray, name: str) -> int:
    """Where an entry of the index begins, right after its name."""
    index = struct.unpack_from("<Q", data, 24)[0]
    return data.index(struct.pack("<H", len(name)) + name.encode(), index) + 2 + len(name)


def _version(data: bytearray) -> None:
    data[4] = 3


def _damaged_header(data: bytearray) -> None:
    data[50] ^= 1


def _damaged_data(data: bytearray) -> None:
    data[-5000] ^= 1


def _compressed(data: bytearray) -> None:
    data[_FLAGS] |= 2


def _count(data: bytearray) -> None:
    struct.pack_into("<I", data, _COUNT, 40)


def _swapped(data: bytearray) -> None:
    """A name of the same length that belongs elsewhere in the order."""
    place = _entry(data, _UP) - len(_UP)
    data[place : place + len(_UP)] = b"a" + data[place + 1 : place + len(_UP)]


def _code(data: bytearray) -> None:
    data[_entry(data, _UP)] = 77


def _rows(data: bytearray) -> None:
    struct.pack_into("<Q", data, _entry(data, _UP) + 2, 511)


def _moved(by: int) -> Callable[[bytearray], None]:
    def move(data: bytearray) -> None:
        place = _entry(data, _UP) + _OFFSET
        (offset,) = struct.unpack_from("<Q", data, place)
        struct.pack_into("<Q", data, place, offset + by)

    return move


def _unaligned(data: bytearray) -> None:
    """A tensor of one row less that begins 16 bytes later."""
    place = _entry(data, _UP)
    rows, width, offset, nbytes = struct.unpack_from("<4Q", data, place + 2)
    struct.pack_into("<4Q", data, place + 2, rows - 1, width, offset + 16, nbytes - width)


def _cut(data: bytearray) -> None:
    del data[-1000:]


def _metadata(change: Callable[[dict[str, Any]], object]) -> Maker:
    """The file with other metadata: all that follows is moved."""

    def text(old: bytes) -> bytes:
        content = json.loads(old)
        change(content)
        return json.dumps(content, ensure_ascii=False).encode()

    return _changed(lambda data: _replace_metadata(data, text))


def _replace_metadata(data: bytearray, text: Callable[[bytes], bytes]) -> None:
    count, meta, nbytes, index, start = struct.unpack_from("<IQIQQ", data, _COUNT)
    new = text(bytes(data[meta : meta + nbytes]))
    shift = aligned(meta + len(new)) - index
    (flags,) = struct.unpack_from("<H", data, _FLAGS)
    header = AprHeader(count, len(new), index + shift, start + shift, meta, flags)
    data[:] = (
        header.pack() + data[64:meta] + new + bytes(index + shift - meta - len(new)) + data[index:]
    )


def _twice(old: bytes) -> bytes:
    """The model's type a second time."""
    return old.rstrip()[:-1] + b', "model_type": "qwen2"}'


def _sixteen_bit_norm(data: bytearray) -> None:
    """The code of BF16 for a norm, and half its bytes."""
    place = _entry(data, "model.layers.1.input_layernorm.weight")
    data[place] = 30
    nbytes = place + 2 + 8 + 8
    struct.pack_into("<Q", data, nbytes, struct.unpack_from("<Q", data, nbytes)[0] // 2)


PROOFS = (
    Proof("F-APR-FORMAT-003", "a version of the future", _changed(_version), _HEALTHY),
    Proof("F-APR-CHECKSUM-001", "a bit of the header's spare bytes turned",
          _changed(_damaged_header, seal=False), _HEALTHY, also=("F-APR-CHECKSUM-002",)),
    Proof("F-APR-CHECKSUM-002", "a bit of a tensor turned", _changed(_damaged_data, seal=False),
          _HEALTHY),
    Proof("F-APR-FLAGS-001", "the flag of compressed data", _changed(_compressed), _HEALTHY),
    Proof("F-APR-INDEX-001", "a count of one tensor more than there are", _changed(_count),
          _HEALTHY),
    Proof("F-APR-ORDER-001", "a name out of its order", _changed(_swapped), _HEALTHY),
    Proof("F-APR-FORMAT-001", "a tensor of an unknown type", _changed(_code), _HEALTHY),
    Proof("F-APR-SIZE-001", "a tensor with one row less than its bytes", _changed(_rows), _HEALTHY),
    Proof("F-APR-FORMAT-002", "a tensor 16 bytes behind where it may begin", _changed(_unaligned),
          _HEALTHY),
    Proof("F-APR-OFFSET-001", "a file without its last 1000 bytes", _changed(_cut, seal=False),
          _HEALTHY),
    Proof("F-APR-OVERLAP-001", "a tensor that begins inside of the one before",
          _changed(_moved(-640)), _HEALTHY),
    Proof("F-APR-META-001", "a key that stands twice",
          _changed(lambda data: _replace_metadata(data, _twice)), _HEALTHY),
    Proof("F-APR-FIELDS-001", "another spelling of the number of layers",
          _metadata(lambda meta: meta.update(n_layers=3)), _HEALTHY),
    Proof("F-APR-VOCAB-001", "a vocabulary that lacks its last word",
          _metadata(lambda meta: meta["tokenizer.vocabulary"].pop()), _HEALTHY),
    Proof("F-APR-PORTABLE-001", "a norm in bfloat16", _changed(_sixteen_bit_norm), _HEALTHY),
    Proof("F-APR-MODEL-001", "metadata without the rotation's base",
          _metadata(lambda meta: meta.pop("rope_theta")), _HEALTHY),
)  # fmt: skip
