"""A writer of APR v2 files that load in aprender and realizar; one tensor in memory at a time."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_aprqa.formats.apr_header import (
    CODES,
    FOOTER_BYTES,
    HEADER_BYTES,
    AprEntry,
    AprHeader,
    aligned,
)
from pytest_aprqa.formats.apr_rules import apr_problems
from pytest_aprqa.formats.atomic import atomic_file
from pytest_aprqa.formats.checkpoint import JSON_MAX_BYTES, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_aprqa.formats.tensor import Progress, Tensor

_PIECE_BYTES = 1 << 22


def write_apr(
    path: Path,
    *,
    metadata: Mapping[str, Any],
    tensors: Sequence[Tensor],
    progress: Progress | None = None,
) -> None:
    """Write a model as APR v2: whole and under its name, or not at all.

    Raises:
        CheckpointError: with one line for each rule of `apr_rules` that the file would break, or
            when a tensor's bytes are not what it promised.
    """
    if problems := apr_problems(metadata, tensors):
        raise CheckpointError("\n".join(f"{path}: {problem}" for problem in problems))
    write_apr_container(path, compact_json(path, metadata), tensors, progress=progress)


def compact_json(path: Path, metadata: Mapping[str, Any]) -> bytes:
    """The metadata as the file holds them: UTF-8 without spaces, keys in the order given."""
    try:
        text = json.dumps(
            dict(metadata), separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        data = text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: metadata cannot be written as JSON: {error}") from error
    if len(data) > JSON_MAX_BYTES:
        raise CheckpointError(
            f"{path}: metadata of {len(data)} bytes; expected at most {JSON_MAX_BYTES}"
        )
    return data


def write_apr_container(
    path: Path,
    metadata: bytes,
    tensors: Sequence[Tensor],
    *,
    progress: Progress | None = None,
) -> None:
    """Write JSON and tensors in APR's layout, whatever they mean; `write_apr` checks them first."""
    ordered = sorted(tensors, key=lambda tensor: tensor.name.encode())
    entries, offset = [], 0
    for tensor in ordered:
        code = CODES[tensor.encoding]
        entries.append(AprEntry(tensor.name, code, tensor.shape, offset, tensor.nbytes))
        offset += aligned(tensor.nbytes)
    index = b"".join(entry.pack() for entry in entries)
    index_offset = HEADER_BYTES + aligned(len(metadata))
    data_offset = index_offset + aligned(len(index))
    header = AprHeader(len(ordered), len(metadata), index_offset, data_offset)
    with atomic_file(path) as draft, draft.open("wb") as stream:
        output = _Output(stream, data_offset + offset + FOOTER_BYTES)
        for section in (header.pack(), metadata, index):
            output.write(section)
        for tensor in ordered:
            _write_tensor(path, output, tensor)
            if progress is not None:
                progress(tensor.name, output.written, output.total)
        stream.write(output.checksum.to_bytes(FOOTER_BYTES, "little"))


@dataclass
class _Output:
    """A stream with the checksum of all that went into it."""

    stream: BinaryIO
    total: int
    written: int = 0
    checksum: int = 0

    def write(self, data: bytes | memoryview) -> None:
        """Write bytes, then zeros up to the next multiple of 64."""
        for start in range(0, len(data), _PIECE_BYTES):
            self._put(data[start : start + _PIECE_BYTES])
        self._put(bytes(aligned(self.written) - self.written))

    def _put(self, piece: bytes | memoryview) -> None:
        self.stream.write(piece)
        self.checksum = zlib.crc32(piece, self.checksum)
        self.written += len(piece)


def _write_tensor(path: Path, output: _Output, tensor: Tensor) -> None:
    import numpy as np

    data = tensor.read()
    if data.dtype != np.uint8 or data.size != tensor.nbytes:
        raise CheckpointError(
            f"{path}: tensor {tensor.name}: {data.size} values of {data.dtype} were given; "
            f"expected {tensor.nbytes} bytes of {tensor.encoding} {list(tensor.shape)}"
        )
    output.write(np.ascontiguousarray(data).reshape(-1).data)
    tensor.done()
