"""GGUF files, whole or split, as one checkpoint whose tensors are mapped, not loaded.

The gguf package's own reader takes counts, lengths and offsets from the file unchecked and so
loops, allocates or misreads at a damaged one; it is used for healthy files in our tests only.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError, TensorInfo
from pytest_aprqa.formats.encodings import decoded_chunks
from pytest_aprqa.formats.gguf_header import read_header
from pytest_aprqa.formats.gguf_split import Part, joined_fields, part_paths, split_of
from pytest_aprqa.formats.pages import release_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.formats.gguf_field import GgufField


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF model of version 2 or 3 whose headers have been checked in full."""

    path: Path
    """The file, or the first of its parts."""
    files: tuple[Path, ...]
    """Every file of the model, in order."""
    version: int
    """Of the format, in the first file."""
    tensors: Mapping[str, TensorInfo]
    fields: Mapping[str, GgufField]
    """The metadata with its types; keys about the split into parts are left out once joined."""
    _places: Mapping[str, tuple[mmap.mmap, int]] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> GgufFile:
        """Map a file, or all parts of a split one whichever is named, and check their headers.

        Raises:
            CheckpointError: at the first thing that is wrong with any of the files.
        """
        parts = [_open_part(path)]
        split = split_of(parts[0])
        if split is not None:
            siblings = part_paths(path, split)
            parts = [parts[0] if file == path else _open_part(file) for file in siblings]
        fields = joined_fields(parts)
        tensors: dict[str, TensorInfo] = {}
        places: dict[str, tuple[mmap.mmap, int]] = {}
        for part in parts:
            for entry in part.header.entries:
                if entry.name in tensors:
                    raise CheckpointError(
                        f"{part.path}: tensor {entry.name!r:.80} is in "
                        f"{tensors[entry.name].file.name} too; expected it in one part"
                    )
                tensors[entry.name] = TensorInfo(
                    entry.name, entry.encoding, entry.shape, entry.nbytes, part.path
                )
                places[entry.name] = (part.mapped, entry.offset)
        return cls(
            path=parts[0].path,
            files=tuple(part.path for part in parts),
            version=parts[0].header.version,
            tensors=MappingProxyType(tensors),
            fields=MappingProxyType(fields),
            _places=MappingProxyType(places),
        )

    @property
    def format(self) -> Format:
        """GGUF."""
        return Format.GGUF

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The plain values of the keys: numbers, bools, texts and tuples of these."""
        return MappingProxyType({key: _plain(field) for key, field in self.fields.items()})

    def bytes_of(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's bytes as a flat read-only uint8 view of the mapped file."""
        import numpy as np

        info = self._info(name)
        if not info.nbytes:
            return np.empty(0, np.uint8)
        mapped, offset = self._places[name]
        return np.frombuffer(mapped, dtype=np.uint8, count=info.nbytes, offset=offset)

    def float32_chunks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The tensor's values as flat float32 pieces of bounded size, in storage order.

        Raises:
            CheckpointError: when the encoding can be listed but not decoded.
        """
        info = self._info(name)
        try:
            yield from decoded_chunks(info.dtype, self.bytes_of(name), info.shape)
        except CheckpointError as error:
            raise CheckpointError(f"{info.file}: tensor {name!r:.80}: {error}") from error

    def release(self, name: str) -> None:
        """Let the system take the tensor's pages back; the next look at it reads them again."""
        nbytes = self._info(name).nbytes
        mapped, offset = self._places[name]
        release_pages(mapped, offset, nbytes)

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.tensors[name]
        except KeyError:
            raise CheckpointError(f"{self.path}: there is no tensor {name!r}") from None


def _open_part(path: Path) -> Part:
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; expected a GGUF file")
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if not size:
                raise CheckpointError(f"{path}: the file is empty; expected a GGUF file")
            mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # the file shrank since its size was asked
        raise CheckpointError(f"{path}: cannot be mapped: {error}") from error
    return Part(path, mapped, read_header(path, mapped))


def _plain(field: GgufField) -> Any:
    if field.items == "array":
        return tuple(_plain(inner) for inner in field.value)
    return field.value
