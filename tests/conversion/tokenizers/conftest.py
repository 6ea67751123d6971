"""Each kind's tokenizer inside llama.cpp, made once."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from pytest_aprqa.conversion.tokenizers import gguf_tokenizer_fields
from tests.conversion.tokenizers.kinds import Kind, kind
from tests.conversion.tokenizers.llama_vocab import LlamaTokenizer, write_vocabulary


@pytest.fixture(scope="session")
def in_llama(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LlamaTokenizer]:
    """By the name of a kind, llama.cpp's tokenizer for it."""
    directory = tmp_path_factory.mktemp("vocabularies")

    @functools.cache
    def loaded(name: str) -> LlamaTokenizer:
        return load(kind(name), name.replace(" ", "-"))

    def load(made: Kind, name: str) -> LlamaTokenizer:
        path = directory / f"{name}.gguf"
        write_vocabulary(path, gguf_tokenizer_fields(made.config, made.files), name=made.name)
        return LlamaTokenizer(path)

    return loaded
