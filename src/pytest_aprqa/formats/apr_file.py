"""A strict reader of APR v2 files that trusts no number it has not checked."""

from __future__ import annotations

import math
import mmap
import os
import zlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.apr_header import (
    ALIGNMENT,
    DTYPES,
    FOOTER_BYTES,
    HEADER_BYTES,
    MAGIC,
    SUPER_BLOCK,
    SUPER_BLOCK_BYTES,
    AprEntry,
    AprHeader,
    aligned,
    parse_header,
    parse_index,
    stored_sizes,
)
from pytest_aprqa.formats.apr_old import refuse_old
from pytest_aprqa.formats.checkpoint import (
    CHUNK_ELEMENTS,
    JSON_MAX_BYTES,
    CheckpointError,
    TensorInfo,
    parse_json_object,
)
from pytest_aprqa.formats.encodings import decoded_chunks, fits
from pytest_aprqa.formats.pages import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

_PIECE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class AprFile:
    """One APR v2 file whose header, metadata and index have been checked, its tensors mapped."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, Any]
    header: AprHeader
    has_footer: bool
    """Whether the file ends with a checksum of all its bytes; see `verify_footer`."""
    _offsets: Mapping[str, int] = field(repr=False)
    _map: mmap.mmap = field(repr=False)

    @property
    def format(self) -> Format:
        """APR."""
        return Format.APR

    @classmethod
    def open(cls, path: Path) -> AprFile:
        """Map a file and check its header, metadata and index against its size.

        Raises:
            CheckpointError: for a file that is no APR v2, is damaged, or holds what cannot be
                read for certain (compressed, encrypted, column-major).
        """
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                start = stream.read(HEADER_BYTES)
                _check_magic(path, start)
                header = parse_header(path, start, size=size)
                mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # the file shrank since its size was asked
            raise CheckpointError(f"{path}: cannot be mapped: {error}") from error
        metadata = _metadata(path, mapped, header, size)
        entries = parse_index(path, mapped, header, size=size)
        infos = (TensorInfo(e.name, DTYPES[e.code], e.shape, e.nbytes, path) for e in entries)
        return cls(
            path=path,
            tensors=MappingProxyType({info.name: info for info in infos}),
            metadata=MappingProxyType(metadata),
            header=header,
            has_footer=_has_footer(path, header, entries, size),
            _offsets=MappingProxyType({e.name: header.data_offset + e.offset for e in entries}),
            _map=mapped,
        )

    def bytes_of(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's bytes as a flat read-only uint8 view of the mapped file."""
        import numpy as np

        info = self._info(name)
        return np.frombuffer(self._map, np.uint8, count=info.nbytes, offset=self._offsets[name])

    def float32_chunks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The tensor's values as flat float32 pieces of bounded size, in storage order.

        Raises:
            CheckpointError: when rows are no multiple of 256 values and both arrangements of
                Q4_K or Q6_K take the same number of bytes, so that nothing tells them apart.
        """
        info = self._info(name)
        if fits(info.dtype, info.shape):
            yield from decoded_chunks(info.dtype, self.bytes_of(name), info.shape)
            return
        if len(stored_sizes(info.dtype, info.shape)) == 1 and math.prod(info.shape[:-1]) > 1:
            raise CheckpointError(
                f"{self.path}: tensor {name}: rows of {info.shape[-1]} values in {info.dtype} may "
                f"or may not be padded to blocks of {SUPER_BLOCK}, and its size fits both; "
                f"expected rows of a multiple of {SUPER_BLOCK}; convert the model again"
            )
        rows = math.prod(info.shape[:-1])
        by_row = rows * -(-info.shape[-1] // SUPER_BLOCK) * SUPER_BLOCK_BYTES[info.dtype]
        if info.nbytes == by_row:
            yield from self._padded_rows(info)
        else:  # blocks over the whole tensor, the last of them padded
            left = math.prod(info.shape)
            whole = -(-left // SUPER_BLOCK) * SUPER_BLOCK
            for values in decoded_chunks(info.dtype, self.bytes_of(name), (whole,)):
                yield values[:left]
                left -= values.size

    def release(self, name: str) -> None:
        """Let the system take the tensor's pages back; the next look at it reads them again."""
        nbytes = self._info(name).nbytes
        release_pages(self._map, self._offsets[name], nbytes)

    def _padded_rows(self, info: TensorInfo) -> Iterator[np.ndarray[Any, Any]]:
        """Values of rows that are each padded to whole blocks, the padding left out."""
        columns = info.shape[-1]
        padded = -(-columns // SUPER_BLOCK) * SUPER_BLOCK
        row_bytes = padded // SUPER_BLOCK * SUPER_BLOCK_BYTES[info.dtype]
        step = max(1, CHUNK_ELEMENTS // padded) * row_bytes
        data = self.bytes_of(info.name)
        for start in range(0, data.size, step):
            piece = data[start : start + step]
            shape = (piece.size // row_bytes, padded)
            if padded <= CHUNK_ELEMENTS:
                for values in decoded_chunks(info.dtype, piece, shape):
                    yield values.reshape(shape)[:, :columns].reshape(-1)
            else:  # a row of more than one chunk
                left = columns
                for values in decoded_chunks(info.dtype, piece, shape):
                    yield values[:left]
                    left -= values.size

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r}") from None


def verify_footer(path: Path) -> bool:
    """Read a whole file and compare its bytes with the checksum at its end; False: it has none.

    Raises:
        CheckpointError: when a byte is not what it was when the file was written.
    """
    file = AprFile.open(path)
    if not file.has_footer:
        return False
    checksum = 0
    try:
        with path.open("rb") as stream:
            left = os.fstat(stream.fileno()).st_size - FOOTER_BYTES
            while left > 0 and (piece := stream.read(min(left, _PIECE_BYTES))):
                checksum = zlib.crc32(piece, checksum)
                left -= len(piece)
            stored = int.from_bytes(stream.read(FOOTER_BYTES), "little")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if stored != checksum:
        raise CheckpointError(
            f"{path}: the checksum at the end is {stored:08x}; expected {checksum:08x}; "
            f"the file is damaged: fetch or convert it again"
        )
    return True


def _check_magic(path: Path, start: bytes) -> None:
    refuse_old(path, start)
    if not start.startswith(MAGIC):
        raise CheckpointError(f"{path}: begins with {start[:4]!r}; expected {MAGIC!r} of APR v2")


def _metadata(path: Path, data: mmap.mmap, header: AprHeader, size: int) -> dict[str, Any]:
    """The JSON object, of bounded size."""
    where = f"{path}: metadata"
    if header.metadata_size > JSON_MAX_BYTES:
        raise CheckpointError(
            f"{where}: {header.metadata_size} bytes; expected at most {JSON_MAX_BYTES}"
        )
    text = data[header.metadata_offset : header.metadata_offset + header.metadata_size]
    return parse_json_object(text, where=where, strict=True, model_bytes=size)


def _has_footer(path: Path, header: AprHeader, entries: list[AprEntry], size: int) -> bool:
    """Whether a checksum follows the padded data; anything else that follows is refused."""
    end = header.data_offset + max((e.offset + e.nbytes for e in entries), default=0)
    if size == aligned(end) + FOOTER_BYTES:
        return True
    if 0 < (part := size - aligned(end)) < FOOTER_BYTES:
        raise CheckpointError(
            f"{path}: the checksum at the end has {part} of {FOOTER_BYTES} bytes; the file is cut "
            f"short: fetch or convert it again"
        )
    if size - end >= ALIGNMENT:
        raise CheckpointError(
            f"{path}: {size - end} bytes follow the last tensor; expected padding of at most "
            f"{ALIGNMENT - 1} and a checksum of {FOOTER_BYTES}"
        )
    return False
