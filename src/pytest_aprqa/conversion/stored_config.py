"""config.json inside GGUF and APR files, and whether it says what the format's own keys say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families import (
    apr_fields,
    config_disagreements,
    gguf_caveats,
)
from pytest_aprqa.formats.checkpoint import CheckpointError, parse_json_object
from pytest_aprqa.formats.gguf_field import GgufField, string
from pytest_aprqa.formats.gguf_file import GgufFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_aprqa.formats.apr_file import AprFile

GGUF_CONFIG_KEY = "aprqa.config"
"""Holds config.json as text."""
APR_CONFIG_KEY = "hf_config"
"""Holds config.json as an object; aprender's name for it."""
SOURCE_DTYPES_KEY = "aprqa.source_dtypes"
"""Holds which tensors the original had in a narrower encoding: an object from encoding to names,
as JSON text in GGUF."""
# What a float64 keeps of a float32 that was printed and read again.
_FLOAT_TOLERANCE = 1e-6


def stored_config(file: GgufFile | AprFile) -> Mapping[str, Any] | None:
    """config.json as the file carries it; None when it carries none.

    Raises:
        CheckpointError: when it is no JSON object.
    """
    if isinstance(file, GgufFile):
        return _gguf_object(file, GGUF_CONFIG_KEY)
    config = file.metadata.get(APR_CONFIG_KEY)
    if config is not None and not isinstance(config, dict):
        raise CheckpointError(
            f"{file.path}: {APR_CONFIG_KEY} is no object; expected config.json in it"
        )
    return config


def stored_config_problems(file: GgufFile | AprFile, config: Mapping[str, Any]) -> list[str]:
    """Where the config contradicts the keys that the format's own engines read.

    Raises:
        ConversionError: at a config that is not understood.
    """
    if isinstance(file, GgufFile):
        return config_disagreements(config, file.fields, file.tensors)
    return [
        f"{key} is {file.metadata.get(key)!r:.80}; config.json makes it {value!r:.80}"
        for key, value in apr_fields(config).items()
        if not _same(file.metadata.get(key), value)
    ]


def gguf_remarks(path: Path) -> list[str]:
    """What llama.cpp computes otherwise with this model, a line each; none for other formats.

    Raises:
        CheckpointError: when the file cannot be read.
    """
    if path.suffix != ".gguf":
        return []
    config = stored_config(GgufFile.open(path))
    return [] if config is None else gguf_caveats(config)


def stored_source_dtypes(file: GgufFile | AprFile) -> dict[str, str]:
    """By tensor name, the encoding that the original had; empty when the file does not say.

    Raises:
        CheckpointError: when it is not what `source_dtypes_value` makes.
    """
    if isinstance(file, GgufFile):
        value: Any = _gguf_object(file, SOURCE_DTYPES_KEY) or {}
    else:
        value = file.metadata.get(SOURCE_DTYPES_KEY, {})
    where = f"{file.path}: {SOURCE_DTYPES_KEY}"
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: is no object; expected encoding to names")
    return dict(_pairs(value, where))


def source_dtypes_value(source_dtypes: Mapping[str, str]) -> dict[str, list[str]]:
    """The stored form: names under their encoding, all in order."""
    value: dict[str, list[str]] = {}
    for name, encoding in sorted(source_dtypes.items()):
        value.setdefault(encoding, []).append(name)
    return dict(sorted(value.items()))


def gguf_json(value: Mapping[str, Any]) -> GgufField:
    """An object as GGUF keeps it: JSON text, its keys in their own order."""
    return string(json.dumps(value, ensure_ascii=True, separators=(",", ":")))


def _pairs(value: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    for encoding, names in value.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"{where}: {encoding} is no list of names; expected one")
        yield from ((name, encoding) for name in names)


def _gguf_object(file: GgufFile, key: str) -> dict[str, Any] | None:
    text = file.metadata.get(key)
    if text is None:
        return None
    where = f"{file.path}: {key}"
    if not isinstance(text, str):
        raise CheckpointError(f"{where}: is no text; expected a JSON object as text")
    return parse_json_object(text.encode(), where=where)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and type(found) in (int, float):
        return bool(abs(found - expected) <= _FLOAT_TOLERANCE * abs(expected))
    return bool(found == expected and isinstance(found, bool) == isinstance(expected, bool))
