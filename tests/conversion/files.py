"""What model files hold, and files with something in them changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pytest_aprqa.conversion.portable import TOKENIZER_FILES
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.apr_writer import write_apr_container
from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.gguf_field import GgufField
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.hub import resolve_model
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor, tensors_of

Stored = dict[str, tuple[str, tuple[int, ...], bytes]]
Arrays = dict[str, np.ndarray[Any, Any]]


def tiny() -> Path:
    """The directory of the model inside the package."""
    return resolve_model("embedded/aprqa-tiny").directory


def stored(path: Path) -> Stored:
    """Encoding, shape and bytes of each tensor as the file has it."""
    return {
        tensor.name: (tensor.encoding, tensor.shape, tensor.read().tobytes())
        for tensor in tensors_of(open_checkpoint(path))
    }


def encodings(path: Path) -> dict[str, str]:
    """Encoding of each tensor."""
    return {name: info.dtype for name, info in open_checkpoint(path).tensors.items()}


def values(path: Path) -> Arrays:
    """Decoded values of each tensor."""
    return {tensor.name: tensor.values() for tensor in tensors_of(open_checkpoint(path))}


def companions(directory: Path) -> dict[str, bytes]:
    """Bytes of config.json and of the tokenizer's files."""
    return {
        name: (directory / name).read_bytes()
        for name in ("config.json", *TOKENIZER_FILES)
        if (directory / name).is_file()
    }


def names_in(directory: Path) -> list[str]:
    """Everything in a directory, hidden files too."""
    return sorted(path.name for path in directory.iterdir())


def changed_gguf(
    source: Path, target: Path, change: Callable[[dict[str, GgufField]], None]
) -> Path:
    """The same GGUF file with other keys."""
    file = GgufFile.open(source)
    fields = dict(file.fields)
    change(fields)
    write_gguf(target, fields=fields, tensors=tensors_of(file))
    return target


def changed_apr(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same APR file with other metadata, whatever they are."""
    file = AprFile.open(source)
    metadata = json.loads(json.dumps(dict(file.metadata)))
    change(metadata)
    write_apr_container(target, json.dumps(metadata).encode(), tensors_of(file))
    return target


def changed_directory(
    target: Path,
    *,
    config: Callable[[dict[str, Any]], None] = lambda config: None,
    tensor: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    shard_bytes: int = 1 << 40,
    files: dict[str, bytes] | None = None,
) -> Path:
    """A copy of the embedded model with something in it changed."""
    source = tiny()
    target.mkdir()
    contents = companions(source) | (files or {})
    settings = json.loads(contents["config.json"])
    config(settings)
    contents["config.json"] = (json.dumps(settings, indent=2) + "\n").encode()
    for name, data in contents.items():
        (target / name).write_bytes(data)
    tensors = [tensor(each) for each in tensors_of(open_checkpoint(source))]
    write_safetensors(target, tensors, metadata={"format": "pt"}, shard_bytes=shard_bytes)
    return target


def with_value(name: str, value: float) -> Callable[[Tensor], Tensor]:
    """Changes the first value of one tensor, which becomes F32."""

    def change(tensor: Tensor) -> Tensor:
        if tensor.name != name:
            return tensor
        made = tensor.values().copy()
        made.reshape(-1)[0] = value
        return Tensor(name, "F32", tensor.shape, lambda: encode("F32", made))

    return change
