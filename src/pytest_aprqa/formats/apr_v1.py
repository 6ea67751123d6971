"""What an APR v1 file (`APRN`) holds: described, not read, as it is no language model.

Layout: aprender's format module at v1: a 32-byte header, MessagePack metadata, a payload,
CRC-32 of all that precedes; numbers little-endian.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.apr_msgpack import MsgpackError, parse_msgpack
from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAGIC = b"APRN"
HEADER_BYTES = 32
# Model cards are a few kilobytes; a megabyte of one-byte values takes some 64 MB when decoded.
METADATA_MAX_BYTES = 1_000_000
PAYLOAD_MAX_BYTES = 1 << 30
MODEL_TYPES = MappingProxyType(
    {
        0x01: "LinearRegression",
        0x02: "LogisticRegression",
        0x03: "DecisionTree",
        0x04: "RandomForest",
        0x05: "GradientBoosting",
        0x06: "KMeans",
        0x07: "PCA",
        0x08: "NaiveBayes",
        0x09: "KNN",
        0x0A: "SVM",
        0x10: "NgramLm",
        0x11: "Tfidf",
        0x12: "CountVectorizer",
        0x20: "NeuralSequential",
        0x21: "NeuralCustom",
        0x30: "ContentRecommender",
        0x40: "MixtureOfExperts",
        0xFF: "Custom",
    }
)
COMPRESSIONS = MappingProxyType({0: "none", 1: "zstd", 2: "zstd (level 19)", 3: "lz4"})
FLAGS = MappingProxyType(
    {
        0x01: "ENCRYPTED",
        0x02: "SIGNED",
        0x04: "STREAMING",
        0x08: "LICENSED",
        0x10: "TRUENO_NATIVE",
        0x20: "QUANTIZED",
        0x40: "HAS_MODEL_CARD",
    }
)
_HEADER = struct.Struct("<4sBBHIIIBBB9s")
_PIECE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class AprV1Description:
    """What a v1 file says of itself; sizes in bytes."""

    version: tuple[int, int]
    model_type: str
    compression: str
    flags: tuple[str, ...]
    quality: int
    metadata_size: int
    payload_size: int
    uncompressed_size: int
    metadata: Mapping[str, Any]


def describe(path: Path) -> AprV1Description:
    """What a v1 file holds, its checksum and metadata checked, its payload not decoded.

    Raises:
        CheckpointError: for a file that is damaged or no v1 file.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            header = _checked_header(path, stream.read(HEADER_BYTES), size)
            data = stream.read(header.metadata_size)
            stream.seek(0)
            checksum, left = 0, size - 4
            while left > 0 and (piece := stream.read(min(left, _PIECE_BYTES))):
                checksum = zlib.crc32(piece, checksum)
                left -= len(piece)
            stored = int.from_bytes(stream.read(4), "little")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if stored != checksum:
        raise CheckpointError(
            f"{path}: the checksum at the end is {stored:08x}; expected {checksum:08x}; "
            f"the file is damaged: fetch it again"
        )
    return _described(path, header, data)


@dataclass(frozen=True, slots=True)
class _Header:
    version: tuple[int, int]
    model_type: int
    metadata_size: int
    payload_size: int
    uncompressed_size: int
    compression: int
    flags: int
    quality: int


def _checked_header(path: Path, data: bytes, size: int) -> _Header:
    """The header's numbers, which must account for the whole file."""
    if not data.startswith(MAGIC):
        raise CheckpointError(f"{path}: begins with {data[:4]!r}; expected {MAGIC!r} of APR v1")
    if len(data) < HEADER_BYTES or size < HEADER_BYTES + 4:
        raise CheckpointError(
            f"{path}: {size} bytes; expected at least the {HEADER_BYTES + 4} of an APR v1 file"
        )
    _, major, minor, *numbers, _ = _HEADER.unpack(data)
    header = _Header((major, minor), *numbers)
    if major != 1:
        raise CheckpointError(f"{path}: APR v1 file of version {major}.{minor}; expected 1.x")
    room = size - HEADER_BYTES - 4
    claimed = header.metadata_size + header.payload_size
    signed = header.flags & 0x02  # a signature and a key stand between payload and checksum
    if claimed > room or (claimed < room and not signed):
        raise CheckpointError(
            f"{path}: metadata and payload claim {claimed} bytes of {room}; "
            f"the file is cut short or damaged"
        )
    if header.metadata_size > METADATA_MAX_BYTES:
        raise CheckpointError(
            f"{path}: metadata of {header.metadata_size} bytes; "
            f"expected at most {METADATA_MAX_BYTES}"
        )
    if header.uncompressed_size > PAYLOAD_MAX_BYTES:
        raise CheckpointError(
            f"{path}: a payload of {header.uncompressed_size} bytes when unpacked; "
            f"expected at most {PAYLOAD_MAX_BYTES}"
        )
    return header


def _described(path: Path, header: _Header, data: bytes) -> AprV1Description:
    try:
        metadata = parse_msgpack(data)
    except MsgpackError as error:
        raise CheckpointError(f"{path}: metadata is no MessagePack: {error}") from error
    if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
        raise CheckpointError(f"{path}: metadata is no map of names; expected one")
    if header.compression not in COMPRESSIONS:
        raise CheckpointError(
            f"{path}: compression {header.compression}; expected one of {list(COMPRESSIONS)}"
        )
    bits = (1 << place for place in range(8))
    return AprV1Description(
        version=header.version,
        model_type=MODEL_TYPES.get(header.model_type, f"unknown ({header.model_type:#x})"),
        compression=COMPRESSIONS[header.compression],
        flags=tuple(FLAGS.get(bit, hex(bit)) for bit in bits if header.flags & bit),
        quality=header.quality,
        metadata_size=header.metadata_size,
        payload_size=header.payload_size,
        uncompressed_size=header.uncompressed_size,
        metadata=MappingProxyType(metadata),
    )
