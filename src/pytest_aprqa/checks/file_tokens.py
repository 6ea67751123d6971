"""Which ids are ordinary tokens: not special, not unused, not padding of the embedding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# llama.cpp's enum llama_token_type: 1 is normal; 2 to 6 are unknown, control, user-defined,
# unused and byte tokens, whose rows training may never have touched.
_NORMAL = 1
# Reserved tokens by their spelling, where nothing else marks them: <|…|>, <pad>, [UNK], [PAD12].
_RESERVED = re.compile(r"<\|.*\|>|</?[A-Za-z_0-9]+>|\[[A-Z_]+\d*\]", re.DOTALL)


def directory_tokens(directory: Path) -> frozenset[int] | None:
    """Ids of the ordinary tokens of a Hugging Face directory; None when they cannot be told."""
    path = directory / "tokenizer.json"
    try:
        content = read_json_object(path) if path.is_file() else {}
    except CheckpointError:
        return None  # told by the check of the tokenizer
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    added = content.get("added_tokens")
    if isinstance(vocab, list):
        pairs = [
            (entry[0], place)
            for place, entry in enumerate(vocab)
            if isinstance(entry, list) and entry
        ]
    elif isinstance(vocab, dict):
        pairs = list(vocab.items())
    else:
        return None
    tokens = added if isinstance(added, list) else []
    special = [token.get("id") for token in tokens if isinstance(token, dict)]
    known = {number for number in special if type(number) is int}
    return frozenset(
        number
        for text, number in pairs
        if type(number) is int and number not in known and not _reserved(text)
    )


def stored_tokens(kind: Format, metadata: Mapping[str, Any]) -> frozenset[int] | None:
    """Ids of the ordinary tokens of a GGUF or APR file; None when it holds no vocabulary."""
    prefix = "tokenizer.ggml." if kind is Format.GGUF else "tokenizer."
    texts = metadata.get(f"{prefix}{'tokens' if kind is Format.GGUF else 'vocabulary'}")
    types: Sequence[Any] = metadata.get(f"{prefix}token_type") or ()
    if not isinstance(texts, list | tuple):
        return None
    return frozenset(
        number
        for number, text in enumerate(texts)
        if (number >= len(types) or types[number] == _NORMAL) and not _reserved(text)
    )


def _reserved(text: Any) -> bool:
    return not isinstance(text, str) or _RESERVED.fullmatch(text) is not None
