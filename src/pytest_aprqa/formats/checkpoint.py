"""What every checkpoint format offers, and bounded reading of JSON that nobody vouches for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.domain.model import Format

# The largest published tokenizer.json is about 35 MB (256 000 tokens with their merges).
JSON_MAX_BYTES = 200_000_000
# One float32 chunk of 4 MiB stays in the second-level cache of current processors.
CHUNK_ELEMENTS = 1 << 20


class CheckpointError(AprqaError):
    """A model file cannot be read as what it claims to be; one line `file: what, expected`."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the file describes it, before any of its bytes are read."""

    name: str
    dtype: str
    """A name of `formats.encodings`: `F32`, `BF16`, `Q4_K`, `APR_Q8`."""
    shape: tuple[int, ...]
    """Outermost dimension first in every format (GGUF stores them the other way round)."""
    nbytes: int
    file: Path


class Checkpoint(Protocol):
    """Named tensors that are mapped, not loaded; the view that every format's reader gives."""

    @property
    def path(self) -> Path:
        """The file or directory that was opened."""
        ...

    @property
    def format(self) -> Format:
        """The container's format."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """What the files hold, by name, in the order of the files."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the format itself records beside the tensors."""
        ...

    def bytes_of(self, name: str) -> np.ndarray[Any, Any]:
        """The tensor's bytes as stored: a flat read-only uint8 view of the mapped file."""
        ...

    def float32_chunks(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The tensor's values as flat float32 pieces of bounded size, in storage order."""
        ...

    def release(self, name: str) -> None:
        """Let the system take the tensor's pages back; the next look at it reads them again."""
        ...


def read_json_object(path: Path, *, max_bytes: int = JSON_MAX_BYTES) -> dict[str, Any]:
    """The JSON object in a file of bounded size."""
    if not path.is_file():
        raise CheckpointError(f"{path}: the file does not exist; expected a JSON object")
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{path}: {size} bytes; expected JSON of at most {max_bytes} bytes")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_json_object(data, where=str(path))


def parse_json_object(data: bytes, *, where: str, unique_keys: bool = False) -> dict[str, Any]:
    """The JSON object in bytes that nobody vouches for; `where` begins the error's message."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CheckpointError(f"{where}: key {key!r:.80} occurs twice; expected it once")
            found[key] = value
        return found

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique if unique_keys else None)
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{where}: not UTF-8 at byte {error.start}; expected a JSON object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not JSON ({error}); expected a JSON object") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: holds a JSON {type(value).__name__}; expected an object")
    return value
