"""A model as Hugging Face has it, whatever file it was read from; tensors are made when asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.formats.tensor import Tensor

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
"""Files beside config.json that travel with a model, byte for byte."""


class ConversionError(AprqaError):
    """A model cannot be converted as asked; the message says what stands in the way."""


@dataclass(frozen=True, slots=True)
class PortableModel:
    """Config, the files beside it, and tensors under Hugging Face's names and in its layout."""

    config: Mapping[str, Any]
    """config.json as an object."""
    files: Mapping[str, bytes]
    """The TOKENIZER_FILES that the source has or from which its own data was restored."""
    tensors: tuple[Tensor, ...]
    source_dtypes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """By tensor name, the encoding the original checkpoint had it in, where the file at hand
    widened it (norms are F32 in APR and GGUF): what brings it back bit for bit."""
