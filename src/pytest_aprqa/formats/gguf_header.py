"""What stands before the tensors' bytes in one GGUF file, every number checked before its use.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: magic, version, two counts, the
metadata's keys and values, then name, shape, type and offset of each tensor, padding, and data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import ENCODINGS, fits, nbytes_of
from pytest_aprqa.formats.gguf_values import ValueReader

if TYPE_CHECKING:
    import mmap
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_aprqa.formats.gguf_field import GgufField

VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
MAX_ELEMENTS = 2**63 - 1
# The specification's limit on keys; tensor names are shorter (llama.cpp takes 63 bytes).
_MAX_NAME_BYTES = 65_535
# The smallest entries: an empty name, a type and a byte; no dimensions, a type and an offset.
_MIN_FIELD, _MIN_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8
# What one entry's Python objects take beside their values (measured, rounded up).
_FIELD_COST, _TENSOR_COST = 300, 700
_BEFORE_GGUF = (b"lmgg", b"fmgg", b"tjgg", b"algg")


@dataclass(frozen=True, slots=True)
class GgufEntry:
    """One tensor as the header describes it."""

    name: str
    encoding: str
    shape: tuple[int, ...]
    """Outermost dimension first; the file has them the other way round."""
    nbytes: int
    offset: int
    """Of the first byte, from the beginning of the file."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A header that has been checked in full against its file's size."""

    version: int
    alignment: int
    fields: Mapping[str, GgufField]
    entries: tuple[GgufEntry, ...]


def read_header(path: Path, data: mmap.mmap | bytes) -> GgufHeader:
    """The checked header of a whole mapped file.

    Raises:
        CheckpointError: at the first thing that is not as the format has it.
    """
    import gguf

    version = _version(path, data)
    reader = ValueReader(path, data, position=8)
    tensor_count = reader.uint64("the number of tensors")
    field_count = reader.uint64("the number of keys")
    _require_room(reader, field_count, _MIN_FIELD, "keys")
    fields: dict[str, GgufField] = {}
    for _ in range(field_count):
        key = _name(reader, "key", fields)
        reader.charge(_FIELD_COST, f"key {key!r:.80}")
        fields[key] = reader.field(f"key {key!r:.80}")
    alignment = _alignment(path, fields, default=gguf.GGUF_DEFAULT_ALIGNMENT)
    _require_room(reader, tensor_count, _MIN_TENSOR, "tensors")
    found: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for _ in range(tensor_count):
        name = _name(reader, "tensor", found)
        reader.charge(_TENSOR_COST, f"tensor {name!r:.80}")
        found[name] = _tensor(reader, f"{path}: tensor {name!r:.80}")
    start = _padded(reader.position, alignment)
    entries = _placed(path, found, start=start, alignment=alignment, size=len(data))
    return GgufHeader(version, alignment, fields, entries)


def _version(path: Path, data: mmap.mmap | bytes) -> int:
    magic = bytes(data[:4])
    if magic in _BEFORE_GGUF:
        raise CheckpointError(
            f"{path}: a GGML file from before GGUF ({magic!r}); convert the model anew"
        )
    if magic != b"GGUF":
        raise CheckpointError(f"{path}: begins with {magic!r}; a GGUF file begins with b'GGUF'")
    if len(data) < 24:
        raise CheckpointError(
            f"{path}: {len(data)} bytes; a GGUF header has at least 24; the file is cut short"
        )
    version = int.from_bytes(data[4:8], "little")
    if version == 1:
        raise CheckpointError(
            f"{path}: GGUF version 1, which no current program reads; expected 2 or 3; "
            f"convert the model anew"
        )
    swapped = int.from_bytes(data[4:8], "big")
    if swapped in VERSIONS:
        raise CheckpointError(
            f"{path}: GGUF version {swapped} in big-endian byte order; expected little-endian; "
            f"convert it with gguf_convert_endian of the gguf package"
        )
    if version not in VERSIONS:
        raise CheckpointError(f"{path}: GGUF version {version}; expected 2 or 3")
    return version


def _require_room(reader: ValueReader, count: int, smallest: int, what: str) -> None:
    if count > reader.left // smallest:
        raise CheckpointError(
            f"{reader.path}: claims {count} {what}, but {reader.left} bytes follow, enough for "
            f"{reader.left // smallest} at most; the file is cut short or damaged"
        )


def _name(reader: ValueReader, what: str, taken: Mapping[str, object]) -> str:
    name = reader.text(f"a {what}'s name", max_bytes=_MAX_NAME_BYTES)
    if not name or not name.isprintable():
        raise CheckpointError(
            f"{reader.path}: a {what} is named {name!r:.80}; expected printable text"
        )
    if name in taken:
        raise CheckpointError(f"{reader.path}: {what} {name!r:.80} occurs twice; expected it once")
    return name


def _alignment(path: Path, fields: Mapping[str, GgufField], *, default: int) -> int:
    field = fields.get(ALIGNMENT_KEY)
    if field is None:
        return default
    value = field.value
    if field.type != "uint32" or value % 8 or value & (value - 1) or not value:
        raise CheckpointError(
            f"{path}: {ALIGNMENT_KEY} is {field.type} {value!r:.40}; expected a uint32 that is a "
            f"power of two from 8 on"
        )
    return int(value)


def _tensor(reader: ValueReader, where: str) -> tuple[str, tuple[int, ...], int]:
    """The encoding, the shape and the claimed offset of the entry whose name has been read."""
    import gguf

    rank = reader.uint32(f"{where}: rank")
    if rank > 4:
        raise CheckpointError(f"{where}: {rank} dimensions; expected at most 4")
    dims = tuple(reader.uint64(f"{where}: dimension {axis}") for axis in range(rank))
    shape = dims[::-1]
    spanned = 8  # bytes of the widest value; NumPy counts a dimension of 0 as 1
    for dim in dims:
        spanned *= dim or 1
        if spanned > MAX_ELEMENTS:
            raise CheckpointError(f"{where}: shape {list(shape)} overflows 63 bits")
    number = reader.uint32(f"{where}: type")
    try:
        encoding = gguf.GGMLQuantizationType(number).name
    except ValueError:
        encoding = ""
    if encoding not in ENCODINGS:
        raise CheckpointError(
            f"{where}: unknown tensor type {number}; the file is damaged, or newer than this "
            f"installation's gguf package"
        )
    if not fits(encoding, shape):
        raise CheckpointError(
            f"{where}: {encoding} takes rows of a multiple of {ENCODINGS[encoding].block} values; "
            f"found {list(shape)}"
        )
    return encoding, shape, reader.uint64(f"{where}: offset")


def _placed(
    path: Path,
    found: Mapping[str, tuple[str, tuple[int, ...], int]],
    *,
    start: int,
    alignment: int,
    size: int,
) -> tuple[GgufEntry, ...]:
    """The tensors with their places, which must follow one another as ggml's loader demands.

    Tensors in any other order, though apart from each other, are what damaged offsets look like.
    """
    entries = []
    expected = 0
    for name, (encoding, shape, offset) in found.items():
        where = f"{path}: tensor {name!r:.80}"
        nbytes = nbytes_of(encoding, shape)
        if offset % alignment:
            raise CheckpointError(
                f"{where} begins at byte {offset} of the data; expected a multiple of {alignment}"
            )
        if offset != expected:
            how = "inside of the tensors before it" if offset < expected else "after a hole"
            raise CheckpointError(
                f"{where} begins at byte {offset} of the data, {how}; expected {expected}"
            )
        if start + offset + nbytes > size:
            raise CheckpointError(
                f"{where} ends at byte {start + offset + nbytes}, but the file has {size}; "
                f"it is cut short"
            )
        entries.append(GgufEntry(name, encoding, shape, nbytes, start + offset))
        expected = _padded(offset + nbytes, alignment)
    return tuple(entries)


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
