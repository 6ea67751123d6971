"""SHA-256 digests of the files that make a model what it is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What a loader reads: notes, licences and training leftovers do not change the model.
MODEL_FILES = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.gguf",
    "*.apr",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal, read as a stream."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of each file that makes the model, by path relative to `directory`, sorted."""
    paths = {path for pattern in MODEL_FILES for path in directory.glob(pattern)}
    names = sorted(path.relative_to(directory).as_posix() for path in paths if path.is_file())
    return {name: sha256_of(directory / name) for name in names}
