"""Any model as a checkpoint, by what its first bytes say, not by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.huggingface import INDEX_FILE, SINGLE_FILE, open_huggingface
from pytest_aprqa.formats.safetensors import HEADER_MAX_BYTES, SafetensorsFile

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.formats.checkpoint import Checkpoint

_EXPECTED = (
    "expected a directory with safetensors, or a file that begins as GGUF (b'GGUF'), "
    "APR (b'APR\\x00') or safetensors (8 bytes of length, then b'{')"
)
_SHARD = re.compile(r".+-(\d+)-of-(\d+)\.safetensors")
_MAGICS = ((b"GGUF", Format.GGUF), (b"APR", Format.APR))
# The pickle protocols 2 to 5 begin with an opcode and their number; zip and legacy tar are known.
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in (2, 3, 4, 5))


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a Hugging Face directory, or in a safetensors, GGUF or APR file.

    Raises:
        CheckpointError: for what is none of these, or is damaged.
    """
    if path.is_dir():
        return open_huggingface(path)
    match format_of(path):
        case Format.GGUF:
            return GgufFile.open(path)
        case Format.APR:
            return AprFile.open(path)
        case Format.SAFETENSORS:
            _refuse_shard(path)
            return SafetensorsFile.open(path)


def format_of(path: Path) -> Format:
    """The format that a directory or a file's first bytes show; the rest is not looked at.

    Raises:
        CheckpointError: for a file that is not there, or whose first bytes are of no known format.
    """
    if path.is_dir():
        return Format.SAFETENSORS
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
            size = stream.seek(0, 2)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    # First, as a length may spell any other format's first bytes (640 is a pickle's 80 02).
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= HEADER_MAX_BYTES:
        return Format.SAFETENSORS
    for magic, found in _MAGICS:
        if start.startswith(magic):
            return found
    if refused := _known_otherwise(path, start):
        raise CheckpointError(f"{path}: {refused}")
    if path.suffix == ".safetensors":  # a damaged one: its reader says in what way
        return Format.SAFETENSORS
    raise CheckpointError(f"{path}: {size} bytes, which begin with {start!r}; {_EXPECTED}")


def _known_otherwise(path: Path, start: bytes) -> str | None:
    """What a file is that cannot be read, and what to give instead."""
    if path.name.endswith(".safetensors.index.json"):
        return f"an index of shards; expected the directory that holds it: {path.parent}"
    if path.suffix == ".json" or start[:1] == b"{":
        return (
            f"a JSON text, no weights; expected the directory that holds it ({path.parent}) "
            f"or a file of weights"
        )
    if start.startswith(b"PK\x03\x04"):
        return (
            "a zip archive, as torch.save writes it; it may run code when it is loaded, so it is "
            f"not opened; expected safetensors: save the model again as {SINGLE_FILE}"
        )
    if start.startswith(_PICKLES):
        return (
            "a Python pickle, as older torch.save wrote it; it may run code when it is loaded, so "
            f"it is not opened; expected safetensors: save the model again as {SINGLE_FILE}"
        )
    if start.startswith(b"version https://"):
        return "a Git LFS pointer, not the file itself; fetch the content with `git lfs pull`"
    if start.startswith((b"ggml", b"lmgg", b"tjgg", b"fmgg", b"algg")):
        return "a llama.cpp file from before GGUF; convert the model again from its source"
    return None


def _refuse_shard(path: Path) -> None:
    """One shard is no model: its directory is, by its index."""
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard[2]) > 1:
        raise CheckpointError(
            f"{path}: shard {int(shard[1])} of {int(shard[2])}; expected the directory that holds "
            f"all of them and {INDEX_FILE}: {path.parent}"
        )
