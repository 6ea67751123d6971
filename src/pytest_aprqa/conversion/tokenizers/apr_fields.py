"""The APR metadata of a tokenizer, and the tokenizer's files from it again.

The keys are those that aprender writes and realizar reads: custom keys `tokenizer.*` at the top
level of the metadata object, where dots are part of the key.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.agreement import tokenizer_disagreements
from pytest_aprqa.conversion.tokenizers.embedded_files import FILE_KEY, NAMES_KEY
from pytest_aprqa.conversion.tokenizers.gguf_fields import ID_KEYS, ggml_fields
from pytest_aprqa.conversion.tokenizers.restoring import require_agreement, stored_files
from pytest_aprqa.formats.gguf_field import GgufField, array, boolean, string, uint32

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_ARRAYS = {
    "tokenizer.ggml.tokens": ("tokenizer.vocabulary", "string"),
    "tokenizer.ggml.merges": ("tokenizer.merges", "string"),
    "tokenizer.ggml.scores": ("tokenizer.scores", "float32"),
    "tokenizer.ggml.token_type": ("tokenizer.token_type", "int32"),
}
_TEXTS = {
    "tokenizer.ggml.model": "tokenizer.model",
    "tokenizer.ggml.pre": "tokenizer.pre_type",
    "tokenizer.chat_template": "chat_template",
}
_FLAGS = {
    f"tokenizer.ggml.{name}": f"tokenizer.{name}"
    for name in ("add_bos_token", "add_eos_token", "add_space_prefix")
}
_NUMBERS = {key: key.replace(".ggml.", ".") for key in ID_KEYS.values()}


def apr_tokenizer_fields(config: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Every APR metadata key of a tokenizer, as JSON values.

    Args:
        config: config.json, as for `gguf_tokenizer_fields`.
        files: The tokenizer's files by name; tokenizer.json is required.

    Returns:
        `tokenizer.vocabulary` (a text for each of the vocab_size rows: readers drop slots without
        one, which would shift all later ids), `tokenizer.merges` ("left right") or, for
        SentencePiece, `tokenizer.scores`; types, special ids, `tokenizer.pre_type`,
        `chat_template`, and every file under `aprqa.file.<name>`: text as it is, other bytes as
        {"base64": ...}.

    Raises:
        ConversionError: As `gguf_tokenizer_fields`.
    """
    fields = ggml_fields(config, files)
    metadata: dict[str, Any] = {"tokenizer.model_type": "BPE"}
    for key, (name, _) in _ARRAYS.items():
        if key in fields:
            metadata[name] = list(fields[key].value)
    for key, name in (_TEXTS | _FLAGS | _NUMBERS).items():
        if key in fields:
            metadata[name] = fields[key].value
    metadata["tokenizer.vocab_size"] = len(metadata["tokenizer.vocabulary"])
    metadata[NAMES_KEY] = list(files)
    for name, data in files.items():
        metadata[FILE_KEY + name] = _packed(data)
    return metadata


def files_from_apr(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """A tokenizer's files by name, from an APR file's metadata.

    The files that were embedded come back byte for byte, if they still agree with the
    `tokenizer.*` keys; for a file made elsewhere they are rebuilt from the keys.

    Raises:
        ConversionError: Keys and files disagree, a key has the wrong type, or a tokenizer of this
            kind cannot be rebuilt.
    """
    files = stored_files_of_apr(metadata)
    require_agreement(apr_tokenizer_disagreements(files, metadata))
    return files


def stored_files_of_apr(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of `files_from_apr`, not yet compared with the keys.

    Raises:
        ConversionError: A key has the wrong type, a file is missing, or a tokenizer of this kind
            cannot be rebuilt.
    """
    fields = as_ggml(metadata)
    if NAMES_KEY in metadata:
        fields |= file_fields(metadata)
    try:
        return stored_files(fields)
    except ConversionError as error:
        raise ConversionError(_in_apr_terms(str(error))) from error


def apr_tokenizer_disagreements(
    files: Mapping[str, bytes], metadata: Mapping[str, Any]
) -> list[str]:
    """One line for each thing in which an APR file's tokenizer keys and tokenizer files differ.

    Compared is what `agreement.tokenizer_disagreements` compares; an empty list: none.

    Raises:
        ConversionError: A key has the wrong type.
    """
    return [_in_apr_terms(line) for line in tokenizer_disagreements(files, as_ggml(metadata))]


def as_ggml(metadata: Mapping[str, Any]) -> dict[str, GgufField]:
    """The tokenizer's keys of an APR file under GGUF's names.

    Raises:
        ConversionError: A key has the wrong type.
    """
    fields: dict[str, GgufField] = {}
    for key, (name, items) in _ARRAYS.items():
        if name in metadata:
            fields[key] = _array(name, items, metadata[name])
    for key, name in _TEXTS.items():
        if metadata.get(name) is not None:
            fields[key] = string(_checked(name, metadata[name], str))
    for key, name in _FLAGS.items():
        if name in metadata:
            fields[key] = boolean(_checked(name, metadata[name], bool))
    for key, name in _NUMBERS.items():
        if name in metadata:
            fields[key] = uint32(_checked(name, metadata[name], int))
    if "tokenizer.ggml.model" not in fields:
        fields["tokenizer.ggml.model"] = string(_kind(metadata))
    return fields


def _kind(metadata: Mapping[str, Any]) -> str:
    """By which of merges and scores is there: not every writer says."""
    return "llama" if "tokenizer.scores" in metadata else "gpt2"


def _packed(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def file_fields(metadata: Mapping[str, Any]) -> dict[str, GgufField]:
    """The tokenizer files of an APR file as GGUF would have them.

    Raises:
        ConversionError: One is malformed.
    """
    fields = {NAMES_KEY: _array(NAMES_KEY, "string", metadata[NAMES_KEY])}
    for name in fields[NAMES_KEY].value:
        value = metadata.get(FILE_KEY + name)
        key = "tokenizer.huggingface.json" if name == "tokenizer.json" else FILE_KEY + name
        if isinstance(value, dict):
            try:
                data = base64.b64decode(value.get("base64", ""), validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise ConversionError(f"{FILE_KEY}{name}: no base64: {error}") from error
            fields[key] = array("uint8", list(data))
        elif value is not None:
            fields[key] = string(_checked(FILE_KEY + name, value, str))
    return fields


def _array(name: str, items: str, value: Any) -> GgufField:
    kinds: dict[str, tuple[type, ...]] = {"string": (str,), "float32": (int, float)}
    allowed = kinds.get(items, (int,))
    if not isinstance(value, list) or not all(isinstance(each, allowed) for each in value):
        raise ConversionError(f"{name}: is no list of {items}; expected one entry for each token")
    return array(items, value)


def _checked(name: str, value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConversionError(
            f"{name} is {value!r}; expected {kind.__name__}, as readers refuse the metadata else"
        )
    return value


def _in_apr_terms(message: str) -> str:
    """The message with APR's names for the keys."""
    names = {key: name for key, (name, _) in _ARRAYS.items()} | _TEXTS | _FLAGS | _NUMBERS
    for key, name in names.items():
        message = message.replace(key, name)
    return message.replace("tokenizer.huggingface.json", f"{FILE_KEY}tokenizer.json")
