"""Writing GGUF files through the gguf package, one tensor in memory at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.atomic import UnwritableError, atomic_file
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_header import ALIGNMENT_KEY
from pytest_aprqa.formats.gguf_values import VALUE_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.formats.gguf_field import GgufField
    from pytest_aprqa.formats.tensor import Progress, Tensor

ARCHITECTURE_KEY = "general.architecture"
# ggml keeps names in 64 bytes, the last of them zero (GGML_MAX_NAME), and four dimensions.
MAX_NAME_BYTES = 63
MAX_RANK = 4
_TYPE_NUMBERS = {name: number for number, name in VALUE_TYPES.items()}


def write_gguf(
    path: Path,
    *,
    fields: Mapping[str, GgufField],
    tensors: Sequence[Tensor],
    progress: Progress | None = None,
) -> None:
    """Write a GGUF file of version 3 that appears under its name when it is complete.

    `general.architecture` comes first, then the other keys and the tensors in the order given.
    Equal input gives equal bytes.

    Raises:
        CheckpointError: for a key, type, name or encoding that llama.cpp would not load, or bytes
            that do not fit a tensor's shape.
    """
    _check_fields(path, fields)
    _check_tensors(path, tensors)
    with atomic_file(path) as draft:
        writer = _writer(draft, path, fields)
        try:
            _write(writer, path, tensors, progress)
        finally:
            writer.close()


def _writer(draft: Path, path: Path, fields: Mapping[str, GgufField]) -> Any:
    """The package's writer with the keys in it, each in exactly the type given."""
    import gguf

    # The constructor adds general.architecture itself, as the first key.
    writer = gguf.GGUFWriter(draft, fields[ARCHITECTURE_KEY].value)
    if ALIGNMENT_KEY in fields:
        writer.data_alignment = fields[ALIGNMENT_KEY].value
    for key, field in fields.items():
        if key == ARCHITECTURE_KEY:
            continue
        items = None if field.items is None else gguf.GGUFValueType(_TYPE_NUMBERS[field.items])
        writer.add_key_value(
            key, field.value, gguf.GGUFValueType(_TYPE_NUMBERS[field.type]), sub_type=items
        )
    return writer


def _write(writer: Any, path: Path, tensors: Sequence[Tensor], progress: Progress | None) -> None:
    import gguf
    import numpy as np

    for tensor in tensors:
        # Any type but uint8 tells the package that the shape is of values, not of bytes.
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),
            tensor.nbytes,
            raw_dtype=gguf.GGMLQuantizationType[tensor.encoding],
        )
    writer.write_header_to_file()
    try:
        writer.write_kv_data_to_file()
    except OSError:
        raise  # the disk's fault, not the value's
    except Exception as error:  # struct.error, TypeError, UnicodeError: all of one cause
        raise CheckpointError(f"{path}: a key's value does not fit its type: {error}") from error
    writer.write_ti_data_to_file()
    written, total = 0, sum(tensor.nbytes for tensor in tensors)
    for tensor in tensors:
        try:
            data = tensor.read()
            if data.nbytes != tensor.nbytes:
                raise CheckpointError(
                    f"{path}: tensor {tensor.name!r}: {data.nbytes} bytes; expected "
                    f"{tensor.nbytes} for {tensor.encoding} {list(tensor.shape)}"
                )
            _put(writer, path, data)
            del data  # a derived tensor's memory is free before the next is made
        finally:
            tensor.done()
        written += tensor.nbytes
        if progress is not None:
            progress(tensor.name, written, total)


def _put(writer: Any, path: Path, data: np.ndarray[Any, Any]) -> None:
    """Write a tensor's bytes; NumPy, which the package writes with, tells a full disk unclearly."""
    try:
        writer.write_tensor_data(data)
    except OSError as error:
        if error.errno is not None:
            raise
        raise UnwritableError(path, f"the disk takes no more bytes: {error}") from error


def _check_fields(path: Path, fields: Mapping[str, GgufField]) -> None:
    """What the package would write without complaint and llama.cpp would refuse."""
    architecture = fields.get(ARCHITECTURE_KEY)
    if architecture is None or architecture.type != "string" or not architecture.value:
        raise CheckpointError(f"{path}: {ARCHITECTURE_KEY} is missing; expected a text")
    alignment = fields.get(ALIGNMENT_KEY)
    if alignment is not None:
        value = alignment.value
        if alignment.type != "uint32" or value <= 0 or value % 8 or value & (value - 1):
            raise CheckpointError(
                f"{path}: {ALIGNMENT_KEY} is {alignment.type} {value!r}; expected a uint32 that "
                f"is a power of two from 8 on"
            )
    for key, field in fields.items():
        where = f"{path}: key {key!r:.80}"
        if not key or not key.isprintable():
            raise CheckpointError(f"{where}: no name for a key; expected printable text")
        if field.type not in _TYPE_NUMBERS:
            raise CheckpointError(f"{where}: unknown type {field.type!r}")
        if field.type == "array":
            if field.items not in _TYPE_NUMBERS or field.items == "array":
                raise CheckpointError(
                    f"{where}: array of {field.items!r}; llama.cpp takes arrays of plain types"
                )
            if not field.value:
                raise CheckpointError(f"{where}: an empty array; leave the key out")
        elif field.items is not None:
            raise CheckpointError(f"{where}: {field.type} has no items; expected None")


def _check_tensors(path: Path, tensors: Sequence[Tensor]) -> None:
    import gguf

    names: set[str] = set()
    for tensor in tensors:
        where = f"{path}: tensor {tensor.name!r}"
        if tensor.name in names:
            raise CheckpointError(f"{where} is given twice; expected each name once")
        names.add(tensor.name)
        if not tensor.name.isprintable() or not 0 < len(tensor.name.encode()) <= MAX_NAME_BYTES:
            raise CheckpointError(
                f"{where}: no name for a tensor; llama.cpp takes 1 to {MAX_NAME_BYTES} bytes"
            )
        if tensor.encoding not in gguf.GGMLQuantizationType.__members__:
            raise CheckpointError(f"{where}: GGUF has no {tensor.encoding}; decode it first")
        if len(tensor.shape) > MAX_RANK:
            raise CheckpointError(
                f"{where}: {len(tensor.shape)} dimensions; expected at most {MAX_RANK}"
            )
