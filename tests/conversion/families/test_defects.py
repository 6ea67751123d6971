"""Conversions that are wrong on purpose: the comparison with llama.cpp must see each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_aprqa.conversion.families import family_of_config, gguf_fields, gguf_tensors, registry
from pytest_aprqa.conversion.families.family_table import Family, TensorRule
from pytest_aprqa.conversion.families.tables import FAMILIES
from pytest_aprqa.formats.gguf_field import GgufField
from pytest_aprqa.formats.tensor import Tensor
from tests.conversion.families import llama_cpp
from tests.conversion.families.cases import CASES
from tests.conversion.families.small_models import TOKENS, SmallModel, make, nmse, write

Fields = dict[str, GgufField]
_CASES = {case.name: case for case in CASES}


def model_of(name: str, directory: Path) -> SmallModel:
    return make(_CASES[name], directory / "made")


def distance(
    model: SmallModel, path: Path, fields: Fields | None = None, tensors: list[Tensor] | None = None
) -> float:
    fields = gguf_fields(model.config) if fields is None else fields
    tensors = gguf_tensors(model.config, model.tensors) if tensors is None else tensors
    write(path, fields, tensors)
    return nmse(llama_cpp.logits(path, TOKENS), model.logits)


def plant(
    monkeypatch: pytest.MonkeyPatch, model: SmallModel, change: Callable[[TensorRule], TensorRule]
) -> None:
    """The family's table, with every row of it changed."""
    right = family_of_config(model.config)

    def planted(family: Family) -> Family:
        if family is not right:
            return family
        return replace(family, tensors=tuple(change(rule) for rule in family.tensors))

    monkeypatch.setattr(registry, "FAMILIES", tuple(planted(family) for family in FAMILIES))


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("llama", {"order": ""}),
        ("llama-3", {"order": ""}),
        ("granite", {"order": ""}),
        ("mistral", {"order": ""}),
        ("falcon-40b", {"order": ""}),
        ("falcon-old", {"order": ""}),
        ("gemma2", {"plus_one": False}),
        ("gemma3", {"plus_one": False}),
    ],
)
def test_a_movement_or_offset_left_out_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, lost: dict[str, object]
) -> None:
    model = model_of(name, tmp_path)
    plant(monkeypatch, model, lambda rule: replace(rule, **lost))  # type: ignore[arg-type]
    assert distance(model, tmp_path / "wrong.gguf") > 1e-3


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "olmo2", "starcoder2", "stablelm"])
def test_rows_woven_where_they_should_not_be_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    orders = {"blk.{n}.attn_q": "queries", "blk.{n}.attn_k": "keys"}
    model = model_of(name, tmp_path)
    plant(monkeypatch, model, lambda rule: replace(rule, order=orders.get(rule.gguf, rule.order)))
    assert distance(model, tmp_path / "wrong.gguf") > 1e-3


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("llama", "llama.rope.freq_base", 1_000_000.0),
        ("llama-linear", "llama.rope.scaling.factor", 2.0),
        ("qwen2-yarn", "qwen2.rope.scaling.original_context_length", 64),
        ("gemma3", "gemma3.rope.freq_base_swa", 1_000_000.0),
        ("gemma2", "gemma2.attention.sliding_window", 16),
        ("gemma2", "gemma2.final_logit_softcapping", 10.0),
        ("gemma2", "gemma2.attn_logit_softcapping", 1.0),
        ("granite", "granite.attention.scale", 0.1),
        ("granite", "granite.residual_scale", 1.0),
        ("granite", "granite.embedding_scale", 1.0),
        ("granite", "granite.logit_scale", 1.0),
        ("stablelm", "stablelm.rope.dimension_count", 8),
        ("stablelm-theta", "stablelm.rope.freq_base", 10_000.0),
        ("phi3-long", "phi3.rope.scaling.attn_factor", 1.0),
        ("qwen3_moe", "qwen3moe.expert_used_count", 1),
        ("deepseek_v2", "deepseek2.expert_weights_scale", 1.0),
        ("deepseek_v2-lite", "deepseek2.rope.scaling.yarn_log_multiplier", 0.02),
    ],
)
def test_a_wrong_key_is_seen(tmp_path: Path, name: str, key: str, value: float) -> None:
    model = model_of(name, tmp_path)
    fields = gguf_fields(model.config)
    fields[key] = replace(fields[key], value=value)
    assert distance(model, tmp_path / "wrong.gguf", fields) > 1e-5


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("llama", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"),
        ("qwen3_moe", "blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight"),
        ("deepseek_v2", "blk.1.ffn_gate_shexp.weight", "blk.1.ffn_up_shexp.weight"),
        ("qwen2", "blk.0.attn_k.bias", "blk.0.attn_v.bias"),
        ("starcoder2", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"),
        ("olmo2", "blk.0.post_attention_norm.weight", "blk.0.post_ffw_norm.weight"),
        ("falcon-40b", "blk.0.attn_norm.weight", "blk.0.attn_norm_2.weight"),
        ("gemma2", "blk.0.ffn_norm.weight", "blk.0.post_attention_norm.weight"),
        ("phi3-long", "rope_factors_long.weight", "rope_factors_short.weight"),
    ],
)
def test_two_tensors_exchanged_are_seen(tmp_path: Path, name: str, one: str, other: str) -> None:
    model = model_of(name, tmp_path)
    names = {one: other, other: one}
    tensors = gguf_tensors(model.config, model.tensors)
    assert names.keys() <= {tensor.name for tensor in tensors}
    swapped = [tensor.named(names.get(tensor.name, tensor.name)) for tensor in tensors]
    assert distance(model, tmp_path / "wrong.gguf", None, swapped) > 1e-4


def test_rope_factors_left_out_are_seen(tmp_path: Path) -> None:
    model = model_of("llama-3", tmp_path)
    tensors = gguf_tensors(model.config, model.tensors)
    without = [tensor for tensor in tensors if tensor.name != "rope_freqs.weight"]
    assert len(without) == len(tensors) - 1
    assert distance(model, tmp_path / "wrong.gguf", None, without) > 1e-4
