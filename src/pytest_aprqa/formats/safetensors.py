"""A strict reader of safetensors files that trusts no number it has not checked.

Format: https://github.com/huggingface/safetensors#format (8-byte length, JSON header, tensors).
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError, TensorInfo, parse_json_object
from pytest_aprqa.formats.encodings import decoded_chunks
from pytest_aprqa.formats.pages import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

# The format's own limit on the header (MAX_HEADER_SIZE of the reference implementation).
HEADER_MAX_BYTES = 100_000_000
# NumPy before 2.0 has at most 32 dimensions; no model has more than 6.
MAX_RANK = 32
MAX_ELEMENTS = 2**63 - 1
# Bits per element, as the reference implementation lists them (Dtype::bitsize).
DTYPE_BITS = MappingProxyType(
    {
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
        **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
        **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
        **dict.fromkeys(("I32", "U32", "F32"), 32),
        **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    }
)
# How NumPy views the stored values; formats it lacks are seen as unsigned integers.
_VIEWS = MappingProxyType(
    {
        **{"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2"},
        **{"BF16": "<u2", "I32": "<i4", "U32": "<u4", "F32": "<f4", "I64": "<i8"},
        **{"U64": "<u8", "F64": "<f8", "C64": "<c8"},
    }
)


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """One safetensors file whose header has been checked in full, its tensors mapped lazily."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    _offsets: Mapping[str, int] = field(repr=False)
    _map: mmap.mmap = field(repr=False)

    @property
    def format(self) -> Format:
        """SafeTensors."""
        return Format.SAFETENSORS

    @classmethod
    def open(cls, path: Path) -> SafetensorsFile:
        """Map a file and check its whole header against its size."""
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                header = _read_header(path, stream.read(8), size=size, read=stream.read)
                mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # the file shrank since its size was asked
            raise CheckpointError(f"{path}: cannot be mapped: {error}") from error
        start = 8 + header.length
        infos = _checked_tensors(path, header.entries, buffer_size=size - start)
        return cls(
            path=path,
            tensors=MappingProxyType({info.name: info for info, _ in infos}),
            metadata=MappingProxyType(header.metadata),
            _offsets=MappingProxyType({info.name: start + begin for info, begin in infos}),
            _map=mapped,
        )

    def bytes_of(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's bytes as a flat read-only uint8 view of the mapped file."""
        import numpy as np

        info = self._info(name)
        return np.frombuffer(
            self._map, dtype=np.uint8, count=info.nbytes, offset=self._offsets[name]
        )

    def raw(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's stored values as a read-only view (BF16 as uint16, F8 as uint8)."""
        info = self._info(name)
        stored = self.bytes_of(name)
        if DTYPE_BITS[info.dtype] < 8:
            return stored  # packed: elements have no addresses of their own
        return stored.view(_VIEWS.get(info.dtype, "u1")).reshape(info.shape)

    def float32_chunks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The tensor's values as flat float32 pieces of bounded size, in storage order."""
        info = self._info(name)
        try:
            yield from decoded_chunks(info.dtype, self.bytes_of(name), info.shape)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: tensor {name}: {error}") from error

    def release(self, name: str) -> None:
        """Let the system take the tensor's pages back; the next look at it reads them again."""
        nbytes = self._info(name).nbytes
        release_pages(self._map, self._offsets[name], nbytes)

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r}") from None


@dataclass(frozen=True, slots=True)
class _Header:
    length: int
    metadata: dict[str, str]
    entries: dict[str, Any]


def _read_header(path: Path, prefix: bytes, *, size: int, read: Any) -> _Header:
    """The header's JSON, read only once its length is known to fit the file and the limit."""
    if len(prefix) < 8:
        raise CheckpointError(f"{path}: {size} bytes; expected at least 8 for the header's length")
    length = int.from_bytes(prefix, "little")
    if length > size - 8:
        raise CheckpointError(
            f"{path}: the header claims {length} bytes, but {size - 8} follow; "
            f"the file is cut short or no safetensors file"
        )
    if length > HEADER_MAX_BYTES:
        raise CheckpointError(
            f"{path}: the header claims {length} bytes; expected at most {HEADER_MAX_BYTES}"
        )
    data = read(length)
    if not data.startswith(b"{"):
        raise CheckpointError(f"{path}: the header begins with {data[:1]!r}; expected {{")
    entries = parse_json_object(data, where=f"{path}: header", strict=True, model_bytes=size)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError(f"{path}: __metadata__ is no object of texts; expected text to text")
    return _Header(length, metadata, entries)


def _checked_tensors(
    path: Path, entries: dict[str, Any], *, buffer_size: int
) -> list[tuple[TensorInfo, int]]:
    """Every tensor with its offset, in the order of the buffer, which they fill exactly."""
    found = [_checked_tensor(path, name, entry) for name, entry in entries.items()]
    found.sort(key=lambda pair: (pair[1], pair[1] + pair[0].nbytes))
    end = 0
    for info, begin in found:
        where = f"{path}: tensor {info.name}"
        if begin < end:
            raise CheckpointError(
                f"{where} begins at byte {begin}, inside of the tensor before it; expected {end}"
            )
        if begin > end:
            raise CheckpointError(f"{where} begins at byte {begin} after a hole; expected {end}")
        end = begin + info.nbytes
        if end > buffer_size:
            raise CheckpointError(
                f"{where} ends at byte {end}, but only {buffer_size} bytes follow the header; "
                f"the file is cut short"
            )
    if end != buffer_size:
        raise CheckpointError(
            f"{path}: {buffer_size - end} bytes follow the last tensor; expected none"
        )
    return found


def _checked_tensor(path: Path, name: str, entry: Any) -> tuple[TensorInfo, int]:
    """One header entry as a tensor and its offset, every number checked."""
    where = f"{path}: tensor {name!r}"
    if not name.isprintable():
        raise CheckpointError(f"{where}: the name has unprintable characters; expected plain text")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where}: expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        known = ", ".join(DTYPE_BITS)
        raise CheckpointError(f"{where}: unknown dtype {dtype!r:.40}; expected one of {known}")
    if not _natural_numbers(shape) or len(shape) > MAX_RANK:
        raise CheckpointError(
            f"{where}: shape {shape!r:.80}; expected at most {MAX_RANK} non-negative integers"
        )
    if not _natural_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where}: data_offsets {offsets!r:.80}; expected [begin, end]")
    elements, spanned = 1, 8  # bytes of the widest value; NumPy counts a dimension of 0 as 1
    for dim in shape:
        elements *= dim
        spanned *= dim or 1
        if spanned > MAX_ELEMENTS:
            raise CheckpointError(f"{where}: shape {shape!r:.80} overflows 63 bits")
    bits = elements * DTYPE_BITS[dtype]
    nbytes = offsets[1] - offsets[0]
    if bits % 8 or bits // 8 != nbytes:
        raise CheckpointError(
            f"{where}: {nbytes} bytes; expected {bits / 8:g} for {dtype} {list(shape)}"
        )
    return TensorInfo(name, dtype, tuple(shape), nbytes, path), offsets[0]


def _natural_numbers(value: Any) -> bool:
    """Whether a JSON value is a list of integers from 0 to 2**63 - 1 (true is none of them)."""
    return isinstance(value, list) and all(
        type(number) is int and 0 <= number <= MAX_ELEMENTS for number in value
    )
