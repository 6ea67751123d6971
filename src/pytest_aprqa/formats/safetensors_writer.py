"""Writing safetensors files as Hugging Face lays them out, one tensor in memory at a time.

Format: https://github.com/huggingface/safetensors#format; shards and their index as transformers'
`save_pretrained` names them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_aprqa.formats.atomic import writing
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import encoding_of
from pytest_aprqa.formats.huggingface import INDEX_FILE, SINGLE_FILE
from pytest_aprqa.formats.safetensors import DTYPE_BITS, HEADER_MAX_BYTES, MAX_RANK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from pytest_aprqa.formats.tensor import Progress, Tensor

# The reference implementation pads its header with spaces to this many bytes.
_HEADER_ALIGNMENT = 8
# More shards than five digits number would not sort by name.
_MAX_SHARDS = 99_999


def write_safetensors(
    directory: Path,
    tensors: Sequence[Tensor],
    *,
    metadata: Mapping[str, str],
    shard_bytes: int = 5_000_000_000,
    progress: Progress | None = None,
) -> None:
    """Write `model.safetensors`, or numbered shards and their index, into a directory.

    Tensors keep their order; a shard is closed before the tensor that would take it beyond
    `shard_bytes`, so that only a single larger tensor exceeds it. Equal input gives equal bytes.
    The directory should be a draft (`atomic_directory`): files are written in place.

    Raises:
        CheckpointError: for an encoding that safetensors lacks (quantized blocks), a name that
            is given twice, or bytes that do not fit a tensor's shape.
    """
    _check(directory, tensors)
    shards = _shards(tensors, shard_bytes)
    count, total = len(shards), sum(tensor.nbytes for tensor in tensors)
    if count > _MAX_SHARDS:
        raise CheckpointError(
            f"{directory}: {count} shards of {shard_bytes} bytes; expected at most {_MAX_SHARDS}; "
            f"ask for larger ones"
        )
    written, weight_map = 0, {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE_FILE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
        with writing(directory, directory), (directory / name).open("wb") as stream:
            written = _write(stream, shard, metadata, _Count(written, total, progress))
        weight_map.update({tensor.name: name for tensor in shard})
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        text = json.dumps(index, indent=2) + "\n"
        with writing(directory, directory):
            (directory / INDEX_FILE).write_text(text, encoding="utf-8")


def write_safetensors_file(
    path: Path,
    tensors: Sequence[Tensor],
    *,
    metadata: Mapping[str, str],
    progress: Progress | None = None,
) -> None:
    """Write one file, in place: give it a draft (`atomic_file`) where that matters.

    Raises:
        CheckpointError: as `write_safetensors`.
    """
    _check(path, tensors)
    total = sum(tensor.nbytes for tensor in tensors)
    with writing(path, path), path.open("wb") as stream:
        _write(stream, tensors, metadata, _Count(0, total, progress))


class _Count:
    """How much is written, told to whoever wants to know."""

    def __init__(self, written: int, total: int, progress: Progress | None) -> None:
        self.written, self._total, self._progress = written, total, progress

    def add(self, tensor: Tensor) -> None:
        """One more tensor is written."""
        self.written += tensor.nbytes
        if self._progress is not None:
            self._progress(tensor.name, self.written, self._total)


def _check(path: Path, tensors: Sequence[Tensor]) -> None:
    """Everything that can be refused before the first byte is written."""
    names: set[str] = set()
    for tensor in tensors:
        where = f"{path}: tensor {tensor.name!r}"
        if tensor.name in names:
            raise CheckpointError(f"{where} is given twice; expected each name once")
        if not tensor.name.isprintable() or tensor.name == "__metadata__":
            raise CheckpointError(f"{where}: no name for a tensor; expected plain text")
        names.add(tensor.name)
        if not encoding_of(tensor.encoding).plain or tensor.encoding not in DTYPE_BITS:
            raise CheckpointError(
                f"{where}: safetensors has no {tensor.encoding}; decode it to F32, F16 or BF16"
            )
        if len(tensor.shape) > MAX_RANK:
            raise CheckpointError(
                f"{where}: {len(tensor.shape)} dimensions; expected at most {MAX_RANK}"
            )


def _shards(tensors: Sequence[Tensor], shard_bytes: int) -> list[list[Tensor]]:
    shards: list[list[Tensor]] = [[]]
    room = shard_bytes
    for tensor in tensors:
        if shards[-1] and tensor.nbytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.nbytes
    return shards


def _write(
    stream: BinaryIO, tensors: Sequence[Tensor], metadata: Mapping[str, str], count: _Count
) -> int:
    """The header, which the shapes alone decide, then each tensor's bytes; bytes written so far."""
    header = _header(stream.name, tensors, metadata)
    stream.write(len(header).to_bytes(8, "little"))
    stream.write(header)
    for tensor in tensors:
        try:
            data = tensor.read()
            if data.nbytes != tensor.nbytes:
                raise CheckpointError(
                    f"{stream.name}: tensor {tensor.name!r}: {data.nbytes} bytes; expected "
                    f"{tensor.nbytes} for {tensor.encoding} {list(tensor.shape)}"
                )
            stream.write(data.data)
            del data  # a derived tensor's memory is free before the next is made
        finally:
            tensor.done()
        count.add(tensor)
    return count.written


def _header(name: str, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {}
    if metadata:
        entries["__metadata__"] = dict(sorted(metadata.items()))
    begin = 0
    for tensor in tensors:
        end = begin + tensor.nbytes
        entries[tensor.name] = {
            "dtype": tensor.encoding,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    padded = text + b" " * (-len(text) % _HEADER_ALIGNMENT)
    if len(padded) > HEADER_MAX_BYTES:
        raise CheckpointError(
            f"{name}: the header takes {len(padded)} bytes; expected at most {HEADER_MAX_BYTES}; "
            f"write smaller shards"
        )
    return padded
