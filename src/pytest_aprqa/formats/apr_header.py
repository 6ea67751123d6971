"""The fixed parts of an APR v2 file: its 64-byte header and its packed tensor index.

The layout is that of aprender's crate apr-format, module v2 (https://github.com/paiml/aprender):
header, JSON metadata, index and data, each at a multiple of 64; all numbers little-endian.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from mmap import mmap
    from pathlib import Path

MAGIC = b"APR\0"
VERSION = (2, 0)
HEADER_BYTES = 64
ALIGNMENT = 64
FOOTER_BYTES = 4
NAME_MAX_BYTES = 256
MAX_RANK = 8
MAX_NUMBER = 2**63 - 1
# Lengths of name, dtype, rank, offset and size: what the shortest entry takes.
ENTRY_MIN_BYTES = 20

ROW_MAJOR = 0x0400
FLAGS = MappingProxyType(
    {
        0x0001: "LZ4",
        0x0002: "ZSTD",
        0x0004: "ENCRYPTED",
        0x0008: "SIGNED",
        0x0010: "SHARDED",
        0x0020: "QUANTIZED",
        0x0040: "HAS_FILTERBANK",
        0x0080: "HAS_MODEL_CARD",
        0x0100: "STREAMING",
        0x0200: "HAS_VOCAB",
        0x0400: "LAYOUT_ROW_MAJOR",
        0x0800: "LAYOUT_COLUMN_MAJOR",
    }
)
"""Meaning of the header's flag bits."""
# Readers differ in what these do to the bytes that follow, so none is read on a guess.
_REFUSED_FLAGS = MappingProxyType(
    {
        0x0001: "write the file again without compression",
        0x0002: "write the file again without compression",
        0x0004: "decrypt the file first",
        0x0800: "import the model again from its source, so that its tensors are row-major",
    }
)

DTYPES = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        3: "F64",
        4: "I32",
        5: "I64",
        6: "I8",
        7: "U8",
        8: "APR_Q4",  # as written before aprender #438
        9: "APR_Q8",
        12: "Q4_K",
        14: "Q6_K",
        30: "BF16",
        128: "APR_Q4",
        129: "APR_Q8",
    }
)
"""Encoding of each dtype code that aprender reads."""
CODES = MappingProxyType({name: code for code, name in DTYPES.items()})
"""Code that is written for an encoding: the last one of its name."""
# What realizar takes these codes for; where aprender has a meaning too, the two collide.
_REALIZAR = MappingProxyType(
    {
        2: "Q4_0",
        3: "Q4_1",
        6: "Q5_0",
        7: "Q5_1",
        10: "Q2_K",
        11: "Q3_K",
        13: "Q5_K",
        16: "IQ2_XXS",
        17: "IQ2_XS",
    }
)
_HEADER = struct.Struct("<4sBBHIQIQQI20s")


@dataclass(frozen=True, slots=True)
class AprHeader:
    """The header's numbers; offsets in bytes from the start of the file."""

    tensor_count: int
    metadata_size: int
    """Bytes of JSON, without the padding behind it."""
    index_offset: int
    data_offset: int
    metadata_offset: int = HEADER_BYTES
    flags: int = ROW_MAJOR
    version: tuple[int, int] = VERSION

    def pack(self) -> bytes:
        """The 64 bytes, with their checksum."""

        def packed(checksum: int) -> bytes:
            return _HEADER.pack(
                *(MAGIC, *self.version, self.flags, self.tensor_count, self.metadata_offset),
                *(self.metadata_size, self.index_offset, self.data_offset, checksum, bytes(20)),
            )

        return packed(header_checksum(packed(0)))

    @property
    def flag_names(self) -> tuple[str, ...]:
        """Names of the flags that are set; a bit without a name is given as a number."""
        bits = (1 << place for place in range(16))
        return tuple(FLAGS.get(bit, hex(bit)) for bit in bits if self.flags & bit)


@dataclass(frozen=True, slots=True)
class AprEntry:
    """One line of the tensor index."""

    name: str
    code: int
    """A key of DTYPES."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the header's data offset."""
    nbytes: int
    """Bytes of the tensor, without the padding behind it."""

    def pack(self) -> bytes:
        """The entry's bytes as the index holds them."""
        name = self.name.encode()
        rank = len(self.shape)
        return struct.pack(
            f"<H{len(name)}sBB{rank}QQQ",
            *(len(name), name, self.code, rank, *self.shape, self.offset, self.nbytes),
        )


def aligned(number: int) -> int:
    """The next multiple of 64."""
    return -(-number // ALIGNMENT) * ALIGNMENT


def header_checksum(data: bytes) -> int:
    """CRC-32 of the header's bytes but the four (40 to 43) that hold it."""
    return zlib.crc32(data[44:HEADER_BYTES], zlib.crc32(data[:40]))


def parse_header(path: Path, data: bytes, *, size: int) -> AprHeader:
    """The header in a file's first 64 bytes, every number checked against the file's size."""
    if len(data) < HEADER_BYTES:
        raise CheckpointError(f"{path}: {size} bytes; expected at least the {HEADER_BYTES} of APR")
    _, major, minor, flags, count, meta, meta_size, index, start, checksum, _ = _HEADER.unpack(data)
    actual = header_checksum(data)
    if checksum != actual:
        raise CheckpointError(
            f"{path}: the header's checksum is {checksum:08x}; expected {actual:08x}; "
            f"the header is damaged: fetch or convert the file again"
        )
    if major != VERSION[0]:
        raise CheckpointError(f"{path}: APR version {major}.{minor}; expected 2.x")
    for bit, remedy in _REFUSED_FLAGS.items():
        if flags & bit:
            raise CheckpointError(
                f"{path}: flag {FLAGS[bit]} is set; expected plain row-major data; {remedy}"
            )
    places = (HEADER_BYTES, meta, meta + meta_size, index, start, size)
    if list(places) != sorted(places):
        raise CheckpointError(
            f"{path}: metadata at {meta} ({meta_size} bytes), index at {index} and data at {start} "
            f"do not follow each other within {size} bytes; the file is cut short or damaged"
        )
    if count * ENTRY_MIN_BYTES > start - index:
        raise CheckpointError(
            f"{path}: {count} tensors do not fit an index of {start - index} bytes; "
            f"expected at least {ENTRY_MIN_BYTES} bytes for each"
        )
    return AprHeader(count, meta_size, index, start, meta, flags, (major, minor))


def parse_index(path: Path, data: bytes | mmap, header: AprHeader, *, size: int) -> list[AprEntry]:
    """The index's entries, in its order; `data` is the whole file, of which only that is read.

    Raises:
        CheckpointError: for entries that leave the index, are no tensors, are not sorted by the
            bytes of their names (aprender refuses these too), overlap, or leave the file.
    """
    entries: list[AprEntry] = []
    place, last = header.index_offset, b""
    for number in range(header.tensor_count):
        where = f"{path}: index entry {number}"
        entry, name, place = _entry(where, data, place, header.data_offset)
        if entries and name <= last:
            told = f"{entry.name!r} follows {entries[-1].name!r}"
            wrong = "twice the same name" if name == last else "not sorted"
            raise CheckpointError(f"{where}: {told}: {wrong}; expected names in order of bytes")
        entries.append(entry)
        last = name
    if header.data_offset - place >= ALIGNMENT:
        raise CheckpointError(
            f"{path}: the index ends at {place}, the data begin at {header.data_offset}; "
            f"expected at most {ALIGNMENT - 1} bytes of padding between them"
        )
    _check_places(path, entries, size - header.data_offset)
    return entries


def _entry(where: str, data: bytes | mmap, place: int, end: int) -> tuple[AprEntry, bytes, int]:
    """One entry, its name's bytes, and where the next one begins."""

    def take(form: str) -> tuple[Any, ...]:
        nonlocal place
        nbytes = struct.calcsize(form)
        if nbytes > end - place:
            raise CheckpointError(f"{where}: leaves the index, which ends at byte {end}")
        values = struct.unpack_from(form, data, place)
        place += nbytes
        return values

    (length,) = take("<H")
    if not 1 <= length <= NAME_MAX_BYTES:
        raise CheckpointError(
            f"{where}: a name of {length} bytes; expected 1 to {NAME_MAX_BYTES} bytes"
        )
    (raw,) = take(f"<{length}s")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{where}: name {raw[:40]!r} is not UTF-8") from error
    if not name.isprintable():
        raise CheckpointError(f"{where}: name {name!r:.80} has unprintable characters")
    where = f"{where} ({name})"
    code, rank = take("<BB")
    if code not in DTYPES:
        meant = f"; realizar takes it for {_REALIZAR[code]}" if code in _REALIZAR else ""
        raise CheckpointError(
            f"{where}: dtype code {code} is none of aprender's{meant}; "
            f"expected one of {', '.join(map(str, DTYPES))}"
        )
    if rank > MAX_RANK:
        raise CheckpointError(f"{where}: {rank} dimensions; expected at most {MAX_RANK}")
    shape = take(f"<{rank}Q")
    offset, nbytes = take("<QQ")
    entry = AprEntry(name, code, shape, offset, nbytes)
    _check_size(where, entry)
    return entry, raw, place


def _check_size(where: str, entry: AprEntry) -> None:
    """That the number of bytes is what the dtype takes for the shape."""
    spanned = 8  # bytes of the widest value; NumPy counts a dimension of none as one
    for dim in entry.shape:
        spanned *= dim or 1
        if spanned > MAX_NUMBER:
            raise CheckpointError(f"{where}: shape {list(entry.shape)} overflows 63 bits")
    dtype = DTYPES[entry.code]
    sizes = stored_sizes(dtype, entry.shape)
    if entry.nbytes not in sizes:
        expected = " or ".join(map(str, sorted(sizes)))
        hint = ""
        if entry.code in _REALIZAR:
            hint = f"; realizar writes {_REALIZAR[entry.code]} under the same code {entry.code}"
        raise CheckpointError(
            f"{where}: {entry.nbytes} bytes; expected {expected} for {dtype} "
            f"{list(entry.shape)}{hint}"
        )


_ITEM_BYTES = MappingProxyType(
    {"F32": 4, "I32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I8": 1, "U8": 1}
)
SUPER_BLOCK = 256
"""Values in one block of Q4_K and Q6_K."""
SUPER_BLOCK_BYTES = MappingProxyType({"Q4_K": 144, "Q6_K": 210})


def stored_sizes(dtype: str, shape: tuple[int, ...]) -> set[int]:
    """The numbers of bytes that a tensor may take.

    Q4_K and Q6_K come in two arrangements, which differ where rows are no multiple of 256: blocks
    over the whole tensor, and rows padded to whole blocks (as aprender's matrix quantizer does).
    """
    elements = math.prod(shape)
    if dtype in _ITEM_BYTES:
        return {elements * _ITEM_BYTES[dtype]}
    if dtype == "APR_Q8":
        return {4 + elements if elements else 0}
    if dtype == "APR_Q4":
        return {-(-elements // 32) * 18}
    block = SUPER_BLOCK_BYTES[dtype]
    by_row = math.prod(shape[:-1]) * -(-(shape[-1:] or (1,))[0] // SUPER_BLOCK)
    return {-(-elements // SUPER_BLOCK) * block, by_row * block}


def _check_places(path: Path, entries: list[AprEntry], room: int) -> None:
    """That no two tensors share a byte and all lie within the file."""
    end, before = 0, ""
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.nbytes)):
        where = f"{path}: tensor {entry.name}"
        if entry.offset + entry.nbytes > room:
            raise CheckpointError(
                f"{where} ends at byte {entry.offset + entry.nbytes} of the data, of which the "
                f"file has {room}; the file is cut short"
            )
        if entry.nbytes and entry.offset < end:
            raise CheckpointError(
                f"{where} begins at byte {entry.offset} of the data, inside of {before}; "
                f"expected tensors that do not overlap"
            )
        if entry.nbytes:
            end, before = entry.offset + entry.nbytes, entry.name
