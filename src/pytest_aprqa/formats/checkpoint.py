"""What every checkpoint format offers, and bounded reading of JSON that nobody vouches for."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.domain.model import Format

# The largest published tokenizer.json is about 35 MB (256 000 tokens with their merges).
JSON_MAX_BYTES = 200_000_000
# What parsed JSON takes in CPython on 64 bits, by the mark that comes with it: `,` or `[` a value
# and its slot in a list, `{` an object of a few keys, `:` a key. Measured on the densest texts;
# it is kept low enough that a vocabulary of 260 000 words passes beside the smallest tensors.
_COSTS = MappingProxyType({b",": 64, b"[": 64, b"{": 240, b":": 100})
_SPARE_BYTES = 90_000_000
# Merges as pairs, the densest that tokenizers have, take 20 for each byte of the shortest words;
# words of usual length and the vocabulary bring the whole to 5 (tokenizer.json of 35 MB).
_BYTES_FOR_ONE = 8
# An escape of a surrogate pair, or (group 1) of half a pair, or any other.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
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


def parse_json_object(
    data: bytes, *, where: str, strict: bool = False, model_bytes: int | None = None
) -> dict[str, Any]:
    """The JSON object in bytes that nobody vouches for.

    Args:
        data: UTF-8; refused before it is parsed when that would take far more memory than it does.
        where: Begins the error's message.
        strict: Refuse what the formats' other readers refuse (serde_json): a key that occurs
            twice, NaN, infinities and numbers beyond float64, half a surrogate pair.
        model_bytes: Size of the file of weights that holds the JSON: memory may go as far beyond
            it as a vocabulary does. None: the JSON's own length decides.

    Raises:
        CheckpointError: at anything else than such an object.
    """
    _check_memory(data, where, model_bytes)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CheckpointError(f"{where}: key {key!r:.80} occurs twice; expected it once")
            found[key] = value
        return found

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise CheckpointError(f"{where}: {text:.40} is no number of JSON's; expected a finite")
        return value

    try:
        text = data.decode("utf-8")
        if strict:
            _refuse_half_pairs(data, where)
            value = json.loads(
                text, object_pairs_hook=unique, parse_float=finite, parse_constant=finite
            )
        else:
            value = json.loads(text)
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{where}: not UTF-8 at byte {error.start}; expected a JSON object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not JSON ({error}); expected a JSON object") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: holds a JSON {type(value).__name__}; expected an object")
    return value


def _check_memory(data: bytes, where: str, model_bytes: int | None) -> None:
    """Refuse JSON whose objects would take far more memory than its text or its model does."""
    allowed = len(data) * _BYTES_FOR_ONE if model_bytes is None else model_bytes
    taken = sum(cost * data.count(mark) for mark, cost in _COSTS.items())
    if taken > allowed + _SPARE_BYTES:
        beside = "" if model_bytes is None else f", in a file of {model_bytes}"
        raise CheckpointError(
            f"{where}: {len(data)} bytes of JSON would take about {taken} in memory{beside}; "
            f"expected no more values than a model of this size can have"
        )


def _refuse_half_pairs(data: bytes, where: str) -> None:
    if b"\\ud" not in data and b"\\uD" not in data:
        return
    for escape in _ESCAPES.finditer(data):
        if escape[1]:
            raise CheckpointError(
                f"{where}: half a surrogate pair at byte {escape.start()}; expected Unicode text"
            )
