"""Qwen2, Qwen3 and Qwen3-MoE."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pytest_aprqa.conversion.families.family_table import Family, Limit, Option, Settings
from pytest_aprqa.conversion.families.tables.common import (
    EMBEDDING,
    HEAD,
    IMPLIED,
    NORM,
    activation,
    attention,
    gated,
    head_dim,
    head_norms,
    kv_heads,
    norms,
    positions,
    rms_eps,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.llama import LENGTHS
from pytest_aprqa.conversion.families.tables.moe import experts
from pytest_aprqa.conversion.families.tables.windows import switched_window

QWEN2 = Family(
    name="qwen2",
    model_types=("qwen2",),
    architectures=("Qwen2ForCausalLM",),
    arch="qwen2",
    options=(
        *sizes(vocab_key=False),
        kv_heads(32),
        positions(32_768),
        rms_eps(1e-6),
        activation("silu"),
        tied(False),
    ),
    keys=IMPLIED,
    tensors=(EMBEDDING, *norms(), *attention(bias="yes"), *gated(), NORM, HEAD),
    extra=switched_window,
    apr_config=True,
)

_QWEN3_OPTIONS = (
    head_dim(128),
    positions(32_768),
    rms_eps(1e-6),
    activation("silu"),
    # llama.cpp loads no biases of the output projection here.
    Option("attention_bias", "attention_bias", "flag", False, allowed=(False,)),
    tied(False),
)

QWEN3 = Family(
    name="qwen3",
    model_types=("qwen3",),
    architectures=("Qwen3ForCausalLM",),
    arch="qwen3",
    options=(*sizes(vocab_key=False), kv_heads(32), *_QWEN3_OPTIONS),
    keys=(*LENGTHS, *IMPLIED),
    tensors=(EMBEDDING, *norms(), *attention(), *head_norms(), *gated(), NORM, HEAD),
    extra=switched_window,
    apr_config=True,
)


def _read_moe(reader: Any, settings: dict[str, Any]) -> None:
    switched_window(reader, settings)
    if reader.get("mlp_only_layers"):
        raise reader.fail("mlp_only_layers", "none: llama.cpp has experts in every layer")


def _restore_moe(
    config: dict[str, Any], settings: Settings, keys: Mapping[str, Any], tensors: Collection[str]
) -> None:
    config["norm_topk_prob"] = True  # llama.cpp always does


QWEN3_MOE = Family(
    name="qwen3_moe",
    model_types=("qwen3_moe",),
    architectures=("Qwen3MoeForCausalLM",),
    arch="qwen3moe",
    options=(
        *sizes(vocab_key=False),
        kv_heads(4),
        *_QWEN3_OPTIONS,
        Option(
            "experts", "num_experts", "count", 128, also=("num_local_experts",), gguf="expert_count"
        ),
        Option("experts_used", "num_experts_per_tok", "count", 8, gguf="expert_used_count"),
        Option(
            *("expert_inter", "moe_intermediate_size", "count", 768),
            gguf="expert_feed_forward_length",
        ),
        Option("norm_topk", "norm_topk_prob", "flag", False),
        Option("step", "decoder_sparse_step", "count", 1, allowed=(1,)),
    ),
    keys=(*LENGTHS, *IMPLIED),
    tensors=(EMBEDDING, *norms(), *attention(), *head_norms(), *experts(), NORM, HEAD),
    limits=(Limit("norm_topk", (True,), "llama.cpp always norms the chosen experts' weights"),),
    extra=_read_moe,
    restore=_restore_moe,
)
