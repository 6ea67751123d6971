"""From a tokenizer.json's pre-tokenizer to llama.cpp's name, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers import gguf_tokenizer_fields
from pytest_aprqa.conversion.tokenizers.pretokenizers import (
    GPT4_REGEX,
    PRE_TOKENIZERS,
    candidates,
    named,
    tokenizer_json_of,
)
from tests.conversion.tokenizers.kinds import kind
from tests.conversion.tokenizers.test_gguf_fields import changed


@pytest.mark.parametrize("known", PRE_TOKENIZERS, ids=lambda known: known.name)
def test_what_is_rebuilt_is_recognised(known: Any) -> None:
    assert known in candidates({"pre_tokenizer": tokenizer_json_of(known)})
    assert all(named(name) is known for name in known.all_names)


def test_no_name_means_two_things() -> None:
    names = [name for known in PRE_TOKENIZERS for name in known.all_names]
    assert len(names) == len(set(names))


def gpt4_like(regex: str, **more: Any) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"} | more
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}}


@pytest.mark.parametrize(
    "tokenizer",
    [
        gpt4_like(GPT4_REGEX),
        gpt4_like(GPT4_REGEX, behavior="Removed", invert=True),
        gpt4_like(GPT4_REGEX.replace("\\r\\n", "\r\n")),
        gpt4_like(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
            r"|\s*[\r\n]|\s+(?!\S)|\s+"
        ),
    ],
)
def test_other_spellings_of_the_same_are_recognised(tokenizer: dict[str, Any]) -> None:
    assert {known.name for known in candidates(tokenizer)} == {"llama-bpe", "dbrx"}


@pytest.mark.parametrize(
    "tokenizer",
    [
        gpt4_like(GPT4_REGEX.replace("{1,3}", "{1,4}")),
        gpt4_like(GPT4_REGEX, behavior="Removed"),
        gpt4_like(GPT4_REGEX, behavior="MergedWithNext"),
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
    ],
)
def test_an_unknown_one_is_refused_and_shown(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="no pre-tokenizer of llama") as refused:
        candidates(tokenizer)
    assert "add it to PRE_TOKENIZERS" in str(refused.value)
    part = tokenizer["pre_tokenizer"]
    if part and "pretokenizers" in part:
        shown = part["pretokenizers"][0]["pattern"]["Regex"].replace("\\", "\\\\")
        assert shown in str(refused.value)


def test_ignoring_merges_tells_llama_bpe_from_dbrx() -> None:
    made = kind("llama-3")
    assert gguf_tokenizer_fields(made.config, made.files)["tokenizer.ggml.pre"].value == "llama-bpe"
    plain = kind("olmo2")
    assert gguf_tokenizer_fields(plain.config, plain.files)["tokenizer.ggml.pre"].value == "dbrx"


def test_merges_that_count_are_no_matter_where_they_reach_every_token() -> None:
    made = kind("mistral-nemo")
    model = json.loads(made.files["tokenizer.json"])["model"]
    counting = changed(made, tokenizer={"model": model | {"ignore_merges": False}})
    fields = gguf_tokenizer_fields(counting.config, counting.files)
    assert fields["tokenizer.ggml.pre"].value == "tekken"
    unreached = {**model["vocab"], "Ġqqqzzz": len(model["vocab"]) + 20}
    broken = changed(
        made, tokenizer={"model": model | {"ignore_merges": False, "vocab": unreached}}
    )
    with pytest.raises(ConversionError, match="merges do not reach every token"):
        gguf_tokenizer_fields(broken.config, broken.files)
