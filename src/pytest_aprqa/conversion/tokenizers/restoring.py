"""A GGUF file's tokenizer as Hugging Face files again: the embedded ones, or rebuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.agreement import tokenizer_disagreements
from pytest_aprqa.conversion.tokenizers.embedded_files import (
    NAMES_KEY,
    TOKENIZER_JSON_KEY,
    extracted_files,
)
from pytest_aprqa.conversion.tokenizers.gguf_fields import ID_KEYS
from pytest_aprqa.conversion.tokenizers.rebuilding import rebuilt_companions, rebuilt_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_aprqa.formats.gguf_field import GgufField


_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_ITEMS = {
    "tokenizer.ggml.tokens": {"string"},
    "tokenizer.ggml.token_type": _INTEGERS,
    "tokenizer.ggml.scores": {"float32", "float64"},
    "tokenizer.ggml.merges": {"string"},
    "tokenizer.chat_templates": {"string"},
    NAMES_KEY: {"string"},
}
_SCALARS = {
    "tokenizer.ggml.model": {"string"},
    "tokenizer.ggml.pre": {"string"},
    "tokenizer.chat_template": {"string"},
    TOKENIZER_JSON_KEY: {"string"},
    "tokenizer.ggml.add_bos_token": {"bool"},
    "tokenizer.ggml.add_eos_token": {"bool"},
    "tokenizer.ggml.add_space_prefix": {"bool"},
    **dict.fromkeys(ID_KEYS.values(), _INTEGERS),
}


def files_from_gguf(fields: Mapping[str, GgufField]) -> dict[str, bytes]:
    """A tokenizer's files by name, from a GGUF file's metadata.

    The files that were embedded come back byte for byte, if they still agree with the
    `tokenizer.ggml` keys. For a file made elsewhere, tokenizer.json (unless it has that),
    tokenizer_config.json, generation_config.json and chat_template.jinja are rebuilt from the
    keys, for the models gpt2 and llama.

    Raises:
        ConversionError: Keys and files disagree, or a tokenizer of this kind cannot be rebuilt.
    """
    files = stored_files(fields)
    require_agreement(tokenizer_disagreements(files, fields))
    return files


def stored_files(fields: Mapping[str, GgufField]) -> dict[str, bytes]:
    """The files of `files_from_gguf`, not yet compared with the keys.

    Raises:
        ConversionError: A key has the wrong type, a file is missing, or a tokenizer of this kind
            cannot be rebuilt.
    """
    _check_types(fields)
    files = extracted_files(fields)
    if files is None:
        files = rebuilt_companions(fields)
        if TOKENIZER_JSON_KEY in fields:
            files["tokenizer.json"] = str(fields[TOKENIZER_JSON_KEY].value).encode()
        else:
            files["tokenizer.json"] = rebuilt_tokenizer(fields)
    return files


def require_agreement(disagreements: Sequence[str]) -> None:
    """Nothing, when there are no disagreements between a tokenizer's keys and its files.

    Raises:
        ConversionError: with a line for each.
    """
    if disagreements:
        raise ConversionError(
            "the tokenizer's keys and its files disagree, so engines that read one and engines "
            "that read the other would see different texts; expected them to say the same:\n"
            + "\n".join(disagreements)
            + "\nConvert from the original again"
        )


def _check_types(fields: Mapping[str, GgufField]) -> None:
    for key, allowed in (_ITEMS | _SCALARS).items():
        if key not in fields:
            continue
        field = fields[key]
        found = field.items if field.type == "array" else field.type
        if (field.type == "array") != (key in _ITEMS) or found not in allowed:
            what = "an array of " if key in _ITEMS else ""
            raise ConversionError(
                f"{key} is {'an array of ' if field.type == 'array' else 'a '}{found}; expected "
                f"{what}{' or '.join(sorted(allowed))}"
            )
