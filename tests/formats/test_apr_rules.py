"""What keeps an APR file from loading in aprender or realizar is named before it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_aprqa.formats.apr_fields import ALIASES, COUNTS, NUMBERS, TEXTS
from pytest_aprqa.formats.apr_rules import apr_problems
from pytest_aprqa.formats.tensor import Tensor
from tests.formats.apr_models import llama_metadata, llama_tensors, raw_tensor, tensor


def problems(tensors: list[Tensor] | None = None, **changed: Any) -> list[str]:
    return apr_problems(llama_metadata(**changed), tensors or llama_tensors())


def gpt2(name: str = "model.position_embedding.weight", **changed: Any) -> list[str]:
    metadata = llama_metadata(architecture="gpt2", rope_type=None, rope_theta=None, **changed)
    positions = tensor(name, np.ones((128, 256)))
    return apr_problems(metadata, [*llama_tensors(), positions])


def without(name: str, *more: Tensor) -> list[Tensor]:
    return [*(one for one in llama_tensors() if one.name != name), *more]


def test_good_models_break_no_rule() -> None:
    assert problems() == []
    assert gpt2() == gpt2("position_embd.weight") == []
    assert len(gpt2("something.else")) == 2  # then it must say how it rotates
    assert problems(head_dim=64, num_heads=5, num_kv_heads=5, hidden_size=256) == []
    assert apr_problems({"model_type": "regression"}, [tensor("w", np.ones((2, 3)))]) == []
    assert (
        problems(rope_theta=10000, chat_format="chatml", special_tokens={"bos_token": "<s>"}) == []
    )


@pytest.mark.parametrize("alias", ALIASES)
def test_another_spelling(alias: str) -> None:
    field = ALIASES[alias]
    assert problems(None, **{alias: 4}) == [
        f"{alias} is another spelling of {field}; write {field} only"
    ]
    metadata = llama_metadata() | {alias: None}  # null counts: the field is there twice
    assert len(apr_problems(metadata, llama_tensors())) == 1


@pytest.mark.parametrize("field", TEXTS)
def test_fields_that_are_texts(field: str) -> None:
    assert f"{field} is 7; expected a text" in problems(None, **{field: 7})


@pytest.mark.parametrize("value", [4096.0, "4", True, -1, 2**64])
@pytest.mark.parametrize("field", COUNTS)
def test_fields_that_are_counts(field: str, value: Any) -> None:
    assert f"{field} is {value!r}; expected an integer of at least 0" in problems(**{field: value})


@pytest.mark.parametrize("value", ["1e4", True, float("nan"), float("inf")])
@pytest.mark.parametrize("field", NUMBERS)
def test_fields_that_are_numbers(field: str, value: Any) -> None:
    assert f"{field} is {value!r}; expected a finite number" in problems(**{field: value})


@pytest.mark.parametrize("field", ["total_size", "param_count", "model_type"])
def test_fields_that_may_not_be_null(field: str) -> None:
    found = apr_problems(llama_metadata() | {field: None}, llama_tensors())
    assert any(line.startswith(f"{field} is ") for line in found)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model_type": None}, "model_type is missing; expected a text such as 'Llama'"),
        ({"chat_format": "x"}, "chat_format is 'x'; expected one of chatml, llama2"),
        ({"quantization": {}}, "quantization is set; "),
        ({"special_tokens": {"bos": "x"}}, "special_tokens is {'bos': 'x'}; expected texts"),
        ({"special_tokens": {"bos_token": 1}}, "special_tokens is {'bos_token': 1}"),
        ({"sharding": {"shard_count": 2}}, "sharding is {'shard_count': 2}; expected"),
        ({"architecture": "Llama"}, "architecture is 'Llama'; expected a lower-case name"),
        ({"intermediate_size": 0}, "intermediate_size is 0; expected 1 to 262144"),
        ({"num_layers": 257}, "num_layers is 257; expected 1 to 256"),
        ({"rms_norm_eps": 0.1}, "rms_norm_eps is 0.1; expected 1e-10 to 0.01"),
        ({"rope_theta": 1e9}, "rope_theta is 1000000000.0; expected 1 to 1e+08"),
        ({"rope_type": 1}, "rope_type is 1; expected 0 (adjacent pairs) or 2 (halves)"),
        ({"num_heads": 5, "num_kv_heads": 5}, "hidden_size 256 is no multiple of num_heads 5"),
        ({"num_kv_heads": 3}, "num_heads 4 is no multiple of num_kv_heads 3"),
        ({"tokenizer__model": 1}, "tokenizer.model is 1; expected a text"),
        ({"tokenizer__add_bos_token": 1}, "tokenizer.add_bos_token is 1; expected true or false"),
        ({"tokenizer__vocabulary": "ab"}, "tokenizer.vocabulary is a str; expected a list"),
        ({"tokenizer__vocabulary": ["a", None]}, "tokenizer.vocabulary[1] is None; expected texts"),
        ({"tokenizer__vocab_size": 9}, "tokenizer.vocab_size is 9; expected 8, the length of"),
        ({"tokenizer__vocab_size": 8.0}, "tokenizer.vocab_size is 8.0; expected 8"),
        ({"tokenizer__scores": [0.0]}, "tokenizer.scores has 1 values; expected 8"),
        ({"tokenizer__scores": ["a"]}, "tokenizer.scores[0] is 'a'; expected finite numbers"),
        ({"tokenizer__token_type": [1.0]}, "tokenizer.token_type[0] is 1.0; expected integers"),
        ({"tokenizer__token_type": [1]}, "tokenizer.token_type has 1 values; expected 8"),
        ({"tokenizer__merges": ["ab"]}, "tokenizer.merges[0] is 'ab'; expected texts of two parts"),
        ({"tokenizer__merges": [["a", "b"]]}, "tokenizer.merges[0] is ['a', 'b']; expected texts"),
        ({"tokenizer__eos_token_id": 8}, "tokenizer.eos_token_id is 8; expected an id below 8"),
        ({"tokenizer__eos_token_id": "2"}, "tokenizer.eos_token_id is '2'; expected an id"),
        ({"tokenizer__vocabulary": None}, "tokenizer.scores is there without tokenizer.vocabulary"),
    ],
)  # fmt: skip
def test_one_rule_broken(changed: dict[str, Any], expected: str) -> None:
    found = problems(**changed)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    "field",
    [
        *("hidden_size", "num_layers", "num_heads", "intermediate_size", "vocab_size"),
        *("rms_norm_eps", "rope_type", "rope_theta"),
    ],
)
def test_what_a_model_must_say(field: str) -> None:
    told = f"{field} is missing; loaders would guess it from the architecture; expected it written"
    assert told in problems(**{field: None})


def test_learned_positions_need_no_rope_but_an_epsilon() -> None:
    assert [line.split(" is ")[0] for line in gpt2(rms_norm_eps=None)] == ["rms_norm_eps"]


def test_vocabulary_of_another_length_than_the_embedding() -> None:
    found = problems(vocab_size=9)
    assert "vocab_size is 9; expected 8, the length of tokenizer.vocabulary" in found
    assert sum("expected [vocab_size, hidden_size] = [9, 256]" in line for line in found) == 2


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (without("lm_head.weight"), "there is no lm_head.weight; loaders tie nothing"),
        (without("model.embed_tokens.weight"), "there is no embedding; expected model.embed"),
        (
            without("lm_head.weight", tensor("lm_head.weight", np.ones((256, 8)))),
            "tensor lm_head.weight is [256, 8]; expected [vocab_size, hidden_size] = [8, 256]",
        ),
        (
            [*llama_tensors(), tensor("a.embed_tokens.bias", np.ones(8))],
            "tensor a.embed_tokens.bias is [8]; expected [vocab_size, hidden_size]",
        ),
        (
            without("model.norm.weight", tensor("model.norm.weight", np.ones(256), "F16")),
            "tensor 'model.norm.weight' is F16; loaders read norms, biases and vectors as F32",
        ),
        (
            [*llama_tensors(), tensor("q.bias", np.ones((2, 2)), "BF16")],
            "tensor 'q.bias' is BF16; loaders read norms",
        ),
        (
            [*llama_tensors(), tensor("q_layernorm.weight", np.ones((2, 2)), "BF16")],
            "tensor 'q_layernorm.weight' is BF16; loaders read norms",
        ),
        (
            [*llama_tensors(), raw_tensor("i", "I32", (2, 2), bytes(16))],
            "tensor 'i' is I32: realizar reads its code otherwise; expected one of F32",
        ),
        (
            [*llama_tensors(), raw_tensor("q", "Q8_0", (2, 32), bytes(68))],
            "tensor 'q' is Q8_0: APR has no code for it; expected one of F32",
        ),
        (
            [*llama_tensors(), raw_tensor("q", "Q4_K", (2, 300), bytes(576))],
            "tensor 'q' is Q4_K with rows of 300; expected a multiple of 256",
        ),
        ([*llama_tensors(), tensor("", np.ones(2))], "tensor '' has no usable name"),
        ([*llama_tensors(), tensor("a\n", np.ones(2))], r"tensor 'a\n' has no usable name"),
        ([*llama_tensors(), tensor("é" * 129, np.ones(2))], "tensor 'éé"),
        ([*llama_tensors(), tensor("a", np.ones((1,) * 9))], "tensor 'a' has 9 dimensions"),
        ([*llama_tensors(), llama_tensors()[0]], "tensor 'model.norm.weight' is there 2 times"),
    ],
)
def test_bad_tensors(tensors: list[Tensor], expected: str) -> None:
    found = problems(tensors)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_head_under_its_other_name() -> None:
    head = tensor("output.weight", np.ones((8, 256)))
    assert problems(without("lm_head.weight", head)) == []
