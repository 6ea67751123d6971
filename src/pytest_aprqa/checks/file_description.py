"""What a model file or directory says it holds, in the same words for every format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.file_hyperparameters import architecture_of, hyperparameters
from pytest_aprqa.checks.file_tokenizer import (
    TokenizerDescription,
    directory_tokenizer,
    stored_tokenizer,
)
from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.apr_v1 import MAGIC as APR_V1_MAGIC
from pytest_aprqa.formats.apr_v1 import describe
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object
from pytest_aprqa.formats.digest import sha256_of
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_aprqa.formats.checkpoint import Checkpoint, TensorInfo


@dataclass(frozen=True, slots=True)
class FileSize:
    """One file that holds weights."""

    name: str
    nbytes: int
    sha256: str | None
    """None unless asked for: it takes reading the whole file."""


@dataclass(frozen=True, slots=True)
class EncodingShare:
    """How much of the weights one encoding holds."""

    encoding: str
    tensors: int
    values: int
    nbytes: int
    share: float
    """Of all tensors' bytes, 0 to 1."""


@dataclass(frozen=True, slots=True)
class TensorLine:
    """One tensor as the file lists it."""

    name: str
    shape: tuple[int, ...]
    encoding: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class FileDescription:
    """A model file or directory; None and empty where it says nothing."""

    path: Path
    format: str
    """`safetensors`, `gguf`, `apr` or `apr v1`."""
    version: str | None
    """The container's version: `3` of GGUF, `2.0` of APR."""
    architecture: str | None
    hyperparameters: Mapping[str, Any]
    parameters: int
    files: tuple[FileSize, ...]
    encodings: tuple[EncodingShare, ...]
    tokenizer: TokenizerDescription | None
    metadata: Mapping[str, Any]
    """config.json of a directory, the key-value pairs of a GGUF or APR file."""
    tensors: tuple[TensorLine, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files that hold weights."""
        return sum(file.nbytes for file in self.files)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of the tensors for each value; None without values."""
        values = sum(share.values for share in self.encodings)
        stored = sum(share.nbytes for share in self.encodings)
        return 8 * stored / values if values else None


def describe_file(path: Path, *, sha256: bool = False) -> FileDescription:
    """Describe any model file or directory that this package reads, its values unread.

    Raises:
        CheckpointError: when it cannot be read as what it claims to be.
    """
    if path.is_file() and _begins(path, APR_V1_MAGIC):
        return _apr_v1(path, sha256=sha256)
    checkpoint = open_checkpoint(path)
    directory = path if path.is_dir() else None
    metadata: Mapping[str, Any] = checkpoint.metadata
    if directory is not None and checkpoint.format is Format.SAFETENSORS:
        metadata = read_json_object(directory / "config.json")
    kind = checkpoint.format
    tokenizer = (
        directory_tokenizer(path, metadata)
        if kind is Format.SAFETENSORS
        else stored_tokenizer(kind, metadata)
    )
    infos = tuple(checkpoint.tensors.values())
    return FileDescription(
        path=path,
        format=kind.value,
        version=_version(checkpoint),
        architecture=architecture_of(kind, metadata),
        hyperparameters=hyperparameters(kind, metadata),
        parameters=sum(math.prod(info.shape) for info in infos),
        files=tuple(_sized(file, sha256=sha256) for file in _files(checkpoint)),
        encodings=_shares(infos),
        tokenizer=tokenizer,
        metadata=metadata,
        tensors=tuple(TensorLine(i.name, i.shape, i.dtype, i.nbytes) for i in infos),
    )


def _files(checkpoint: Checkpoint) -> Iterable[Path]:
    """Every file that holds weights, in order; a split GGUF file's parts all do."""
    if isinstance(checkpoint, GgufFile):
        return checkpoint.files
    if checkpoint.path.is_file():
        return (checkpoint.path,)
    return dict.fromkeys(info.file for info in checkpoint.tensors.values())


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _version(checkpoint: Checkpoint) -> str | None:
    if isinstance(checkpoint, AprFile):
        return ".".join(map(str, checkpoint.header.version))
    if isinstance(checkpoint, GgufFile):
        return str(checkpoint.version)
    return None


def _sized(path: Path, *, sha256: bool) -> FileSize:
    try:
        return FileSize(path.name, path.stat().st_size, sha256_of(path) if sha256 else None)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error


def _shares(infos: Iterable[TensorInfo]) -> tuple[EncodingShare, ...]:
    """Tensors by encoding, the one with most bytes first."""
    groups: dict[str, list[TensorInfo]] = {}
    for info in infos:
        groups.setdefault(info.dtype, []).append(info)
    total = sum(info.nbytes for group in groups.values() for info in group)
    shares = [
        EncodingShare(
            encoding,
            len(group),
            sum(math.prod(info.shape) for info in group),
            (nbytes := sum(info.nbytes for info in group)),
            nbytes / total if total else 0.0,
        )
        for encoding, group in groups.items()
    ]
    return tuple(sorted(shares, key=lambda share: (-share.nbytes, share.encoding)))


def _apr_v1(path: Path, *, sha256: bool) -> FileDescription:
    """A v1 file: its header and metadata; its payload is no language model."""
    found = describe(path)
    numbers = {
        "compression": found.compression,
        "flags": list(found.flags),
        "quality": found.quality,
        "payload_bytes": found.payload_size,
        "uncompressed_bytes": found.uncompressed_size,
    }
    return FileDescription(
        path=path,
        format="apr v1",
        version=".".join(map(str, found.version)),
        architecture=found.model_type,
        hyperparameters=numbers,
        parameters=0,
        files=(_sized(path, sha256=sha256),),
        encodings=(),
        tokenizer=None,
        metadata=found.metadata,
        tensors=(),
    )
