"""Whatever is in the files or the keys: files, fields, or one clear error."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers import (
    files_from_apr,
    files_from_gguf,
    gguf_tokenizer_fields,
)
from pytest_aprqa.formats.gguf_field import GgufField
from tests.conversion.tokenizers.kinds import Kind, kind
from tests.conversion.tokenizers.test_round_trip import apr_of, foreign, gguf_of

_INSTEAD: tuple[Any, ...] = (
    None,
    0,
    -1,
    2**40,
    "",
    "x",
    [],
    [None],
    {},
    True,
    1.5,
    {"type": "Sequence"},
)


def damaged(value: Any, dice: random.Random) -> Any:
    """The JSON value with one thing in it replaced, somewhere."""
    value = copy.copy(value)
    inside = list(value) if isinstance(value, dict) else range(len(value))
    if not inside:
        return dice.choice(_INSTEAD)
    at = dice.choice(list(inside))
    deeper = isinstance(value[at], dict | list) and dice.random() < 0.8
    value[at] = damaged(value[at], dice) if deeper else dice.choice(_INSTEAD)
    return value


@pytest.mark.parametrize("name", ["llama-3", "llama-2"])
@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_files_give_fields_or_one_error(name: str, file: str) -> None:
    made, dice = kind(name), random.Random(5)
    refused = 0
    for _ in range(150):
        content = json.dumps(damaged(json.loads(made.files[file]), dice)).encode()
        broken = Kind(made.config, {**made.files, file: content})
        try:
            fields = gguf_tokenizer_fields(broken.config, broken.files)
        except ConversionError:
            refused += 1
        else:
            assert len(fields["tokenizer.ggml.tokens"].value) == made.config["vocab_size"]
    assert refused > 10


@pytest.mark.parametrize("name", ["qwen2", "llama-2"])
def test_damaged_gguf_keys_give_files_or_one_error(name: str) -> None:
    fields, dice = gguf_of(kind(name)), random.Random(6)
    refused = 0
    for number in range(300):
        broken = dict(fields if number % 2 else foreign(fields))
        key = dice.choice(list(broken))
        other = dice.choice([*fields.values(), GgufField("array", (), "string"), None])
        if other is None:
            del broken[key]
        else:
            broken[key] = other
        try:
            files = files_from_gguf(broken)
        except ConversionError:
            refused += 1
        else:
            assert "tokenizer.json" in files
    assert refused > 100


@pytest.mark.parametrize("name", ["qwen2", "llama-2"])
def test_damaged_apr_metadata_gives_files_or_one_error(name: str) -> None:
    whole, dice = apr_of(kind(name)), random.Random(8)
    bare = {key: value for key, value in whole.items() if not key.startswith("aprqa.")}
    refused = 0
    for number in range(200):
        try:
            files = files_from_apr(damaged(whole if number % 2 else bare, dice))
        except ConversionError:
            refused += 1
        else:
            assert "tokenizer.json" in files
    assert refused > 50
