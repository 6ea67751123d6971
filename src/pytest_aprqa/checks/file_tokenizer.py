"""What a model file says of its tokenizer, in the same words for every format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# `<name>_token_id` in config.json and GGUF; APR says `padding` where config.json says `pad`.
_SPECIAL = ("bos", "eos", "eot", "eom", "unk", "sep", "pad", "padding", "mask")
_GGUF_WORDS = {
    "unknown": "unk",
    "seperator": "sep",  # GGUF's own spelling
    "padding": "pad",
    "mask": "mask",
    "bos": "bos",
    "eos": "eos",
    "eot": "eot",
    "eom": "eom",
}


@dataclass(frozen=True, slots=True)
class TokenizerDescription:
    """A tokenizer in numbers; None or 0 where the file says nothing."""

    model: str | None
    vocabulary: int
    merges: int
    pre: str | None
    """How text is split before the merges: GGUF's `pre`, or tokenizer.json's pre-tokenizers."""
    special: Mapping[str, Any]
    """`bos`, `eos`, … to the id, or the ids, that the file gives them."""
    chat_template: str | None


def directory_tokenizer(directory: Path, config: Mapping[str, Any]) -> TokenizerDescription | None:
    """The tokenizer of a Hugging Face directory; None when it has no tokenizer.json.

    Raises:
        CheckpointError: when one of its files is no JSON object.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        return None
    content = read_json_object(path)
    settings = _optional(directory / "tokenizer_config.json")
    stated = {**config, **_optional(directory / "generation_config.json")}
    raw = content.get("model")
    model: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
    added = content.get("added_tokens")
    extra = added if isinstance(added, list) else []
    numbers = [token.get("id") for token in extra if isinstance(token, dict)]
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        numbers += vocab.values()
    elif isinstance(vocab, list):
        numbers += range(len(vocab))
    return TokenizerDescription(
        model=_text(model.get("type")),
        vocabulary=len({number for number in numbers if type(number) is int}),
        merges=_length(model.get("merges")),
        pre=_pre(content.get("pre_tokenizer")),
        special=_special(stated),
        chat_template=_template(directory, settings),
    )


def stored_tokenizer(kind: Format, metadata: Mapping[str, Any]) -> TokenizerDescription | None:
    """The tokenizer inside a GGUF or APR file; None when it holds no vocabulary."""
    if kind is Format.GGUF:
        part = _part(metadata, "tokenizer.ggml.")
        special = {
            ours: part[f"{word}_token_id"]
            for word, ours in _GGUF_WORDS.items()
            if f"{word}_token_id" in part
        }
        tokens, model, pre = part.get("tokens"), part.get("model"), part.get("pre")
    else:
        part = _part(metadata, "tokenizer.")
        special = _special(part)
        tokens, pre = part.get("vocabulary"), part.get("pre_type")
        model = part.get("model_type") or part.get("model")
    if not isinstance(tokens, list | tuple):
        return None
    template = metadata.get("tokenizer.chat_template") or metadata.get("chat_template")
    return TokenizerDescription(
        model=_text(model),
        vocabulary=len(tokens),
        merges=_length(part.get("merges")),
        pre=_text(pre),
        special=special,
        chat_template=_text(template),
    )


def _part(metadata: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries under a prefix, without it."""
    return {
        key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple) else 0


def _optional(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _special(stated: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "pad" if name == "padding" else name: stated[f"{name}_token_id"]
        for name in _SPECIAL
        if stated.get(f"{name}_token_id") is not None
    }
    return found


def _pre(node: Any) -> str | None:
    """The pre-tokenizers by their types, in order: `Split, ByteLevel`."""
    if not isinstance(node, dict):
        return None
    parts = node.get("pretokenizers")
    if isinstance(parts, list):
        return ", ".join(told for part in parts if (told := _pre(part))) or None
    return _text(node.get("type"))


def _template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template: its own file goes before tokenizer_config.json, as in transformers."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}; expected UTF-8") from error
    return _text(settings.get("chat_template"))
