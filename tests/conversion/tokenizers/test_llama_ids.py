"""llama.cpp's ids are those of tokenizer.json, on every adversarial text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pytest_aprqa.conversion.tokenizers import files_from_gguf, gguf_tokenizer_fields
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from tests.conversion.tokenizers.kinds import KINDS, kind, with_free_merges
from tests.conversion.tokenizers.known_differences import (
    CLEANED,
    CUT_DIFFERENCES,
    KNOWN_DIFFERENCES,
)
from tests.conversion.tokenizers.llama_vocab import LlamaTokenizer, write_vocabulary

InLlama = Callable[[str], LlamaTokenizer]
_CLEANING = {"llama-bpe", "gpt-2", "starcoder", "refact", "stablelm2", "dbrx", "falcon"}
"""Pre-tokenizers for which llama.cpp takes spaces out again when it decodes."""


def texts_of(differences: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {text for texts in differences.values() for text in texts}


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_the_same_but_for_the_known_texts(name: str, in_llama: InLlama) -> None:
    llama, tokenizer = in_llama(name), kind(name).tokenizer
    differing = {t for t in ADVERSARIAL_TEXTS if llama.ids(t) != plain_ids(tokenizer, t)}
    assert differing == texts_of(KNOWN_DIFFERENCES.get(name, {}))


@pytest.mark.parametrize("name", KINDS)
def test_what_is_added_around_a_text_is_the_same(name: str, in_llama: InLlama) -> None:
    llama, made = in_llama(name), kind(name)
    for text in ADVERSARIAL_TEXTS:
        if text in texts_of(KNOWN_DIFFERENCES.get(name, {})):
            continue
        expected = list(made.tokenizer.encode(text).ids)
        assert llama.ids(text, special=True) == expected, text


@pytest.mark.parametrize("name", CUT_DIFFERENCES)
def test_texts_are_cut_at_the_same_places(name: str, tmp_path: Path) -> None:
    made = with_free_merges(name)
    path = tmp_path / "model.gguf"
    write_vocabulary(path, gguf_tokenizer_fields(made.config, made.files))
    llama = LlamaTokenizer(path)
    differing = {t for t in ADVERSARIAL_TEXTS if llama.ids(t) != plain_ids(made.tokenizer, t)}
    assert differing == texts_of(CUT_DIFFERENCES[name])


def test_a_wrong_pre_tokenizer_would_be_seen(tmp_path: Path) -> None:
    made = with_free_merges("llama-3")
    fields = gguf_tokenizer_fields(made.config, made.files)
    fields |= {"tokenizer.ggml.pre": type(fields["tokenizer.ggml.pre"])("string", "qwen2")}
    write_vocabulary(tmp_path / "model.gguf", fields)
    llama = LlamaTokenizer(tmp_path / "model.gguf")
    differing = [t for t in ADVERSARIAL_TEXTS if llama.ids(t) != plain_ids(made.tokenizer, t)]
    assert "1234567" in differing


@pytest.mark.parametrize("name", KINDS)
def test_llama_decodes_its_ids_to_the_text(name: str, in_llama: InLlama) -> None:
    llama, made = in_llama(name), kind(name)
    pre = gguf_tokenizer_fields(made.config, made.files)["tokenizer.ggml.pre"].value
    # cyllama's detokenize takes leading spaces off, hence the letter in front. Phi-3's special
    # tokens swallow the spaces after them, and SentencePiece cannot tell ▁ from a space.
    changed = {
        text
        for text in ADVERSARIAL_TEXTS
        if llama.text(llama.ids("x" + text)) != "x" + text
        and not (pre == "default" and ("▁" in text or "<" in text or "[INST]" in text))
    }
    assert changed == (set(CLEANED) if pre in _CLEANING else set())


@pytest.mark.parametrize("name", KINDS)
def test_a_tokenizer_rebuilt_from_keys_alone_does_as_llama(name: str, in_llama: InLlama) -> None:
    made, llama = kind(name), in_llama(name)
    fields = {
        key: field
        for key, field in gguf_tokenizer_fields(made.config, made.files).items()
        if not key.startswith(("aprqa.", "tokenizer.huggingface"))
    }
    files = files_from_gguf(fields)
    rebuilt = Tokenizer.from_str(files["tokenizer.json"].decode())
    differing = {
        text
        for text in ADVERSARIAL_TEXTS
        if llama.ids(text, special=True) != list(rebuilt.encode(text).ids)
    }
    known = texts_of(KNOWN_DIFFERENCES.get(name, {}))
    if name == "phi-3":  # llama.cpp knows of the swallowed spaces by the model's name alone
        known = {
            t for t in ADVERSARIAL_TEXTS if t.startswith("<|user|>") or t == " <s> hello </s> "
        }
    assert differing <= known
    assert files["chat_template.jinja"] == made.files["chat_template.jinja"]
    generation = json.loads(files["generation_config.json"])
    expected = json.loads(made.files["generation_config.json"])["eos_token_id"]
    assert generation["eos_token_id"][0] == expected
