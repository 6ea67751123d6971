"""An APR file's header, metadata and index as they stand: read as far as they go.

The strict reader of `formats.apr_header` stops at the first thing that is wrong; here each gate
decides by itself what is.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.apr_header import (
    DTYPES,
    FOOTER_BYTES,
    HEADER_BYTES,
    MAGIC,
    MAX_NUMBER,
    MAX_RANK,
    AprEntry,
    aligned,
    header_checksum,
    stored_sizes,
)
from pytest_aprqa.formats.checkpoint import JSON_MAX_BYTES, CheckpointError, parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import TargetLab

_HEADER = struct.Struct("<4sBBHIQIQQI20s")
_INDEX_MAX_BYTES = 100_000_000
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class AprSurvey:
    """One file's fixed parts."""

    size: int
    magic: bytes
    version: tuple[int, int]
    flags: int
    count: int
    """Tensors that the header claims."""
    data: int
    """Where the data begin."""
    stored_checksum: int
    checksum: int
    """Of the header's bytes as they are."""
    entries: tuple[AprEntry, ...]
    """As many of the index as can be read."""
    broken: str
    """Why the index cannot be read to its end; empty where it can."""
    metadata: Mapping[str, Any]
    """Empty where `metadata_broken`."""
    metadata_broken: str

    @property
    def is_apr(self) -> bool:
        """Whether it begins as APR v2, so that the rest means something."""
        return self.magic == MAGIC and self.version[0] == 2

    def expected(self, entry: AprEntry) -> set[int]:
        """The numbers of bytes that the entry's dtype may take for its shape; empty: unknown."""
        if entry.code not in DTYPES:
            return set()
        span = 1
        for part in entry.shape:
            span *= max(part, 1)
        return set() if span > MAX_NUMBER else stored_sizes(DTYPES[entry.code], entry.shape)


def survey(lab: TargetLab) -> AprSurvey:
    """The fixed parts of the target's file."""
    path = lab.file
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES).ljust(HEADER_BYTES, b"\0")
        numbers = _HEADER.unpack(head)
        magic, major, minor, flags, count, meta, meta_size, index, data, stored, _ = numbers
        sensible = magic == MAGIC and major == 2 and meta + meta_size <= index <= data <= size
        entries: tuple[AprEntry, ...] = ()
        broken = "the parts do not follow each other within the file"
        metadata: Mapping[str, Any] = {}
        metadata_broken = broken
        if sensible and meta_size <= JSON_MAX_BYTES and data - index <= _INDEX_MAX_BYTES:
            stream.seek(meta)
            metadata, metadata_broken = _metadata(path, stream.read(meta_size), size)
            stream.seek(index)
            entries, broken = _entries(stream.read(data - index), count)
    return AprSurvey(
        size=size,
        magic=magic,
        version=(major, minor),
        flags=flags,
        count=count,
        data=data,
        stored_checksum=stored,
        checksum=header_checksum(head),
        entries=entries,
        broken=broken,
        metadata=metadata,
        metadata_broken=metadata_broken,
    )


def _metadata(path: Path, text: bytes, size: int) -> tuple[Mapping[str, Any], str]:
    try:
        where = f"{path.name}: metadata"
        return parse_json_object(text, where=where, strict=True, model_bytes=size), ""
    except CheckpointError as error:
        return {}, str(error)


def _entries(data: bytes, count: int) -> tuple[tuple[AprEntry, ...], str]:
    """The entries in the index's bytes, and why there are fewer than it claims."""
    found: list[AprEntry] = []
    place = 0
    for number in range(count):
        try:
            (length,) = struct.unpack_from("<H", data, place)
            raw, code, rank = struct.unpack_from(f"<{length}sBB", data, place + 2)
            if rank > MAX_RANK:
                return tuple(found), f"entry {number} of the index has {rank} dimensions"
            *shape, offset, nbytes = struct.unpack_from(f"<{rank + 2}Q", data, place + 4 + length)
            name = raw.decode("utf-8")
        except (struct.error, UnicodeDecodeError) as error:
            return tuple(found), f"entry {number} of the index cannot be read: {error}"
        place += 4 + length + 8 * (rank + 2)
        found.append(AprEntry(name, code, tuple(shape), offset, nbytes))
    return tuple(found), ""


@dataclass(frozen=True, slots=True)
class Footer:
    """The checksum at the end of a file; None where there is none."""

    stored: int | None
    actual: int


def footer(lab: TargetLab) -> Footer:
    """The checksum that follows the padded data, and that of the bytes before it."""
    found = lab.once(survey)
    end = found.data + max((e.offset + e.nbytes for e in found.entries), default=0)
    if found.broken or found.size != aligned(end) + FOOTER_BYTES:
        return Footer(None, 0)
    checksum, left = 0, found.size - FOOTER_BYTES
    with lab.file.open("rb") as stream:
        while left > 0 and (piece := stream.read(min(left, _PIECE))):
            checksum = zlib.crc32(piece, checksum)
            left -= len(piece)
        stored = int.from_bytes(stream.read(FOOTER_BYTES), "little")
    return Footer(stored, checksum)
