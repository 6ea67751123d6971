"""Each planted fault in the tokenizer's files yields the finding that names it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.checks.integrity import inspect, inspect_integrity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tokenizer = dict[str, Any]


def messages(directory: Path) -> list[str]:
    return [finding.message for finding in inspect_integrity(directory)]


def shuffle(content: Tokenizer) -> None:
    vocab = content["model"]["vocab"]
    numbers = list(vocab.values())
    random.Random(7).shuffle(numbers)
    content["model"]["vocab"] = dict(zip(vocab, numbers, strict=True))


def lose_a_token(content: Tokenizer) -> None:
    vocab = content["model"]["vocab"]
    del vocab[max(vocab, key=lambda token: vocab[token])]


def lose_a_token_and_its_merge(content: Tokenizer) -> None:
    lose_a_token(content)
    content["model"]["merges"].pop()


def repeat_an_id(content: Tokenizer) -> None:
    content["model"]["vocab"]["Z"] = content["model"]["vocab"]["Y"]


def lose_a_byte(content: Tokenizer) -> None:
    content["model"]["vocab"]["Zz"] = content["model"]["vocab"].pop("Ã")


def lose_a_special_token(content: Tokenizer) -> None:
    content["added_tokens"].pop()


def swap_special_tokens(content: Tokenizer) -> None:
    first, second = content["added_tokens"][:2]
    first["content"], second["content"] = second["content"], first["content"]


def go_beyond_the_rows(content: Tokenizer) -> None:
    token = dict(content["added_tokens"][0], id=512, content="<|more|>")
    content["added_tokens"].append(token)


def break_the_decoder(content: Tokenizer) -> None:
    content["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": 3}


def decode_otherwise(content: Tokenizer) -> None:
    content["decoder"] = {"type": "Fuse"}


def empty(content: Tokenizer) -> None:
    content.pop("model")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (shuffle, "the vocabulary looks shuffled"),
        (lose_a_token, "which is not in the vocabulary"),
        (lose_a_token_and_its_merge, "1 ids have no token (508)"),
        (repeat_an_id, "is both 'Y' and 'Z'"),
        (lose_a_byte, "1 bytes have no token (0xC3); expected all that UTF-8 uses"),
        (lose_a_special_token, "eos_token is '<|im_end|>', which is no token of tokenizer.json"),
        (swap_special_tokens, "added_tokens_decoder gives '<|endoftext|>' the id 509, but it has"),
        (go_beyond_the_rows, "token '<|more|>' has id 512, but the embedding has 512 rows"),
        (break_the_decoder, "tokenizers cannot load it"),
        (decode_otherwise, "'What is 2 + 2?' comes back as"),
        (empty, "no vocabulary can be read"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_tokenizer(
    broken: Callable[..., Path], change: Callable[[Tokenizer], None], expected: str
) -> None:
    path = broken("qwen2-tied") / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    found = messages(path.parent)
    assert any(expected in message for message in found), found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "not JSON"),
        (b"[]", "holds a JSON list; expected an object"),
        (b'{"model": {"vocab": {"a": "b"}}}', "token 'a' has id 'b'; expected ids from 0"),
        (b'{"model": {"vocab": {}}}', "vocabulary: it is empty; expected ids from 0"),
        (b'{"model": {"vocab": {"a": 0}}, "added_tokens": [1]}', "no vocabulary can be read"),
        (b'{"model": {"vocab": {"a": 4611686018427387904}}}', "1 tokens, but ids up to"),
    ],
)
def test_invalid_tokenizer_file(broken: Callable[..., Path], content: bytes, expected: str) -> None:
    path = broken("qwen2-tied") / "tokenizer.json"
    path.write_bytes(content)
    found = messages(path.parent)
    assert any(expected in message for message in found), found


def test_no_tokenizer(broken: Callable[..., Path]) -> None:
    path = broken("qwen2-tied") / "tokenizer.json"
    path.unlink()
    assert any("there is no tokenizer.json" in message for message in messages(path.parent))


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        (
            "generation_config.json",
            {"eos_token_id": [511, 600]},
            "generation_config.json: eos_token_id 600; expected a token id below 512",
        ),
        (
            "generation_config.json",
            {"eos_token_id": "511"},
            "generation_config.json: eos_token_id '511'; expected a token id below 512",
        ),
        (
            "tokenizer_config.json",
            {"eos_token": "<|endoftext|>"},
            "tokenizer_config.json: eos_token is '<|endoftext|>' with id 509, but "
            "generation_config.json says [511], config.json says [511]; expected 509 among them",
        ),
        (
            "tokenizer_config.json",
            {"pad_token": "[PAD]"},
            "tokenizer_config.json: pad_token is '[PAD]', which is no token of tokenizer.json; "
            "expected one, or it would get an id without trained weights",
        ),
        (
            "tokenizer_config.json",
            {"chat_template": "{% for m in messages %}{{ m.content }}"},
            "tokenizer_config.json chat_template: no valid Jinja: Unexpected end of template.",
        ),
        (
            "tokenizer_config.json",
            {"chat_template": [{"name": "default", "template": "{{ 1 +"}]},
            "tokenizer_config.json chat_template 'default': no valid Jinja:",
        ),
        (
            "tokenizer_config.json",
            {"chat_template": 7},
            "tokenizer_config.json chat_template: no valid Jinja: a int, no text",
        ),
    ],
)
def test_wrong_settings(
    broken: Callable[..., Path], edit_json: Any, file: str, changes: dict[str, Any], expected: str
) -> None:
    path = broken("qwen2-tied") / file
    edit_json(path, **changes)
    found = messages(path.parent)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_template_file_is_read(broken: Callable[..., Path]) -> None:
    directory = broken("qwen2-tied")
    (directory / "chat_template.jinja").write_text("{% if %}")
    assert messages(directory)[0].startswith("chat_template.jinja: no valid Jinja: ")


def test_embedding_one_row_too_long(
    broken: Callable[..., Path], edit_json: Any, resave: Any
) -> None:
    directory = broken("qwen2-tied")
    edit_json(directory / "config.json", vocab_size=513)

    def lengthen(tensors: dict[str, Any]) -> None:
        import torch

        embedding = tensors["model.embed_tokens.weight"]
        tensors["model.embed_tokens.weight"] = torch.cat([embedding, embedding[:1]])

    resave(directory, lengthen)
    assert messages(directory) == [
        "tokenizer.json: 512 tokens for 513 rows of the embedding; expected as many, "
        "or rows padded to a multiple of 8 by at most 2048"
    ]


def test_image_token_without_a_row_is_not_judged(broken: Callable[..., Path]) -> None:
    path = broken("qwen2-tied") / "tokenizer.json"
    content = json.loads(path.read_text())
    token = dict(content["added_tokens"][0], id=512, content="<image_soft_token>")
    content["added_tokens"].append(token)
    path.write_text(json.dumps(content))
    report = inspect(path.parent)
    assert report.findings == ()
    assert report.not_judged == ("token '<image_soft_token>' of another modality: it has no row",)


def test_vocabulary_order_of_other_kinds_is_not_judged(broken: Callable[..., Path]) -> None:
    path = broken("qwen2-tied") / "tokenizer.json"
    content = json.loads(path.read_text())
    vocab = content["model"]["vocab"]
    content["model"] = {"type": "WordLevel", "vocab": vocab, "unk_token": "a"}
    path.write_text(json.dumps(content))
    report = inspect(path.parent)
    assert report.findings == ()
    assert "the order of the vocabulary: a WordLevel tokenizer" in report.not_judged
