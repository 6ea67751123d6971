"""Both engines say the same of a whole model, from whichever of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.choice import load_file
from pytest_aprqa.engines.llamacpp_engine import LlamaCppEngine, load_gguf
from pytest_aprqa.engines.transformers_engine import TransformersEngine, load
from tests.conversion.families.small_models import nmse
from tests.conversion.tokenizers.known_differences import KNOWN_DIFFERENCES
from tests.conversion.whole.conftest import Made

TEXT = "It was the best of times; I don't know 1984's 365 days.\nDer Fluss fließt durch das Tal."
REQUESTS = (
    *(
        GenerationRequest(prompt=prompt, max_tokens=8)
        for prompt in ("Hello, world! How are you", "def f(x):\n    return", "")
    ),
    GenerationRequest(
        messages=(Message("user", "What is 2 + 2?"), Message("assistant", "4")), max_tokens=8
    ),
)
CHAT = REQUESTS[-1]
FLOOR = 1e-6
"""NMSE of llama.cpp's logits; the largest come of its table of GELU (`tests.conversion.families`).
"""
OF_TRANSFORMERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "llama-2": {
        "transformers 5 makes LlamaTokenizer anew from the vocabulary, with Metaspace for "
        "tokenizer.json's normalizer: no space before a text that starts with one": tuple(
            text for text in ADVERSARIAL_TEXTS if text.startswith((" ", "▁"))
        ),
        "the same: no space after a special token": ("<s>hello</s>", "<s<s>s>"),
    },
    "starcoder-2": {
        "transformers 5 makes GPT2Tokenizer anew from vocabulary and merges, without "
        "tokenizer.json's cut between digits": (" 1  22   333", "½ ¼ ² ³ ¹ 12½3456"),
    },
}
"""Texts whose ids differ because transformers does not go by tokenizer.json, as it does for all
other tokenizer classes here."""
NO_SPACE_IN_CHAT = {"llama-2", "mistral"}
"""Whose chat has a text after a special token: transformers' Metaspace puts no space there."""


@dataclass(frozen=True)
class Both:
    made: Made
    transformers: TransformersEngine
    llama_cpp: LlamaCppEngine

    @property
    def ids(self) -> tuple[int, ...]:
        return self.transformers.tokenize(TEXT, special=True)


@pytest.fixture(scope="module")
def both(made: Made) -> Iterator[Both]:
    transformers = load(made.directory, backend=Backend.CPU, dtype="float32", threads=1)
    llama_cpp = load_gguf(made.gguf, threads=1, exact=True)
    yield Both(made, transformers, llama_cpp)
    llama_cpp.close()


def known_differences(made: Made) -> set[str]:
    known = KNOWN_DIFFERENCES.get(made.whole.tokenizer, {})
    more = OF_TRANSFORMERS.get(made.whole.name, {})
    return {text for texts in (*known.values(), *more.values()) for text in texts}


def test_logits_are_the_same(both: Both) -> None:
    expected = both.transformers.logits(both.ids)
    found = both.llama_cpp.logits(both.ids)
    assert len(both.ids) > 20
    assert found.shape == expected.shape
    assert nmse(found, expected) < FLOOR


@pytest.mark.parametrize("special", [False, True])
def test_token_ids_are_the_same_but_for_the_known_texts(both: Both, special: bool) -> None:
    texts = ADVERSARIAL_TEXTS if special else ADVERSARIAL_TEXTS[::3]
    differing = {
        text
        for text in texts
        if both.llama_cpp.tokenize(text, special=special)
        != both.transformers.tokenize(text, special=special)
    }
    assert differing == known_differences(both.made) & set(texts)


@pytest.mark.parametrize("request_", REQUESTS, ids=["words", "code", "nothing", "chat"])
def test_answers_are_the_same(both: Both, request_: GenerationRequest) -> None:
    expected, found = both.transformers.generate(request_), both.llama_cpp.generate(request_)
    assert found.rendered_prompt == expected.rendered_prompt
    if request_ is CHAT and both.made.whole.name in NO_SPACE_IN_CHAT:
        assert found.prompt_token_ids != expected.prompt_token_ids
        return
    assert found.prompt_token_ids == expected.prompt_token_ids
    assert len(found.token_ids) > 0
    assert found.token_ids == expected.token_ids
    assert found.finish_reason == expected.finish_reason
    # Bytes that are no UTF-8 are shown byte by byte in one engine, run by run in the other.
    if "\ufffd" not in found.text + expected.text:
        assert found.text == expected.text


@pytest.mark.parametrize("format_", [Format.APR, Format.GGUF])
def test_transformers_runs_a_file_as_it_does_the_directory(both: Both, format_: Format) -> None:
    made = both.made
    path: Path = made.apr if format_ is Format.APR else made.gguf
    engine = load_file(path, format_, backend=Backend.CPU, threads=1)
    assert engine.describe()["dtype"] == "float32"
    assert np.array_equal(engine.logits(both.ids), both.transformers.logits(both.ids))
    for text in ADVERSARIAL_TEXTS[::3]:
        found = engine.tokenize(text, special=True)
        assert found == both.transformers.tokenize(text, special=True), text
    for request in (REQUESTS[0], CHAT):
        expected, answer = both.transformers.generate(request), engine.generate(request)
        assert answer.prompt_token_ids == expected.prompt_token_ids
        assert (answer.text, answer.token_ids) == (expected.text, expected.token_ids)
