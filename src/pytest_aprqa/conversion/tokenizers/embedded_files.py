"""A tokenizer's files inside a GGUF file's metadata, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.gguf_field import GgufField, array, string

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKENIZER_JSON_KEY = "tokenizer.huggingface.json"
"""Where the GGUF specification puts tokenizer.json."""
NAMES_KEY = "aprqa.files"
"""The names of the files that were embedded; its presence tells our files from others'."""
FILE_KEY = "aprqa.file."
"""Before the name of every other file."""


def embedded_fields(files: Mapping[str, bytes]) -> dict[str, GgufField]:
    """Fields that hold the files: texts as strings, other bytes as arrays of uint8.

    Raises ConversionError if tokenizer.json is not UTF-8.
    """
    fields = {NAMES_KEY: array("string", list(files))}
    for name, data in files.items():
        try:
            field = string(data.decode())
        except UnicodeDecodeError as error:
            if name == "tokenizer.json":
                raise ConversionError(f"tokenizer.json: not UTF-8: {error}") from error
            field = array("uint8", list(data))
        fields[_key(name)] = field
    return fields


def extracted_files(fields: Mapping[str, GgufField]) -> dict[str, bytes] | None:
    """The files that `embedded_fields` put there; None if there never were any.

    Raises ConversionError if one of them is missing or malformed.
    """
    if NAMES_KEY not in fields:
        return None
    files = {}
    for name in fields[NAMES_KEY].value:
        if _key(name) not in fields:
            raise ConversionError(
                f"{_key(name)} is missing, though {NAMES_KEY} names {name}; expected the file in "
                f"full. Convert from the original again"
            )
        field = fields[_key(name)]
        try:
            files[name] = field.value.encode() if field.type == "string" else bytes(field.value)
        except (TypeError, ValueError) as error:
            raise ConversionError(
                f"{_key(name)}: is a {field.type} that holds no bytes: {error}; expected a string "
                f"or an array of uint8"
            ) from error
    return files


def _key(name: str) -> str:
    return TOKENIZER_JSON_KEY if name == "tokenizer.json" else FILE_KEY + name
