"""Llama (1 to 3.x), Mistral and Granite: llama.cpp rotates adjacent rows, so rows are woven."""

from __future__ import annotations

from dataclasses import replace

from pytest_aprqa.conversion.families.family_table import Family, GgufKey, Option, RopeTable
from pytest_aprqa.conversion.families.tables.common import (
    EMBEDDING,
    HEAD,
    IMPLIED,
    NORM,
    activation,
    attention,
    gated,
    head_dim,
    kv_heads,
    norms,
    positions,
    rms_eps,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import one_window, only_full

ROTARY = GgufKey("rope.dimension_count", "uint32", "rotary")
LENGTHS = (GgufKey("attention.value_length", "uint32", "head_dim"),)


_ATTENTION_BIAS = Option(
    "attention_bias", "attention_bias", "flag", False, tensor="blk.0.attn_q.bias"
)
_MLP_BIAS = Option("mlp_bias", "mlp_bias", "flag", False, tensor="blk.0.ffn_gate.bias")
_TENSORS = (
    EMBEDDING,
    *norms(),
    *attention(bias="attention_bias", out_bias="attention_bias", paired=True),
    *gated(bias="mlp_bias"),
    NORM,
    HEAD,
)

LLAMA = Family(
    name="llama",
    model_types=("llama",),
    architectures=("LlamaForCausalLM",),
    arch="llama",
    options=(
        *sizes(vocab_key=True),
        kv_heads(),
        head_dim(),
        positions(2048),
        rms_eps(1e-6),
        activation("silu"),
        _ATTENTION_BIAS,
        _MLP_BIAS,
        tied(False),
    ),
    keys=(ROTARY, *LENGTHS, *IMPLIED),
    tensors=_TENSORS,
    rope=RopeTable(types=("default", "linear", "llama3", "yarn")),
    extra=only_full,
    apr_config=True,
)

MISTRAL = replace(
    LLAMA,
    name="mistral",
    model_types=("mistral",),
    architectures=("MistralForCausalLM",),
    options=(
        *sizes(vocab_key=True),
        kv_heads(8),
        head_dim(),
        positions(131_072),
        rms_eps(1e-6),
        activation("silu"),
        tied(False),
        # llama.cpp ignores the window: beyond it, it sees more than transformers does. The key
        # is what tells a Mistral file from a Llama file.
        Option(
            *("window", "sliding_window", "count", None),
            gguf="attention.sliding_window",
            optional=True,
        ),
    ),
    tensors=(EMBEDDING, *norms(), *attention(paired=True), *gated(), NORM, HEAD),
    extra=one_window,
    window_ignored=True,
)

GRANITE = replace(
    LLAMA,
    name="granite",
    model_types=("granite",),
    architectures=("GraniteForCausalLM",),
    arch="granite",
    options=(
        *sizes(vocab_key=True),
        kv_heads(),
        positions(2048),
        rms_eps(1e-6),
        activation("silu"),
        _ATTENTION_BIAS,
        _MLP_BIAS,
        tied(False),
        Option("attention_scale", "attention_multiplier", "number", 1.0, gguf="attention.scale"),
        Option("embedding_scale", "embedding_multiplier", "number", 1.0, gguf="embedding_scale"),
        Option("residual_scale", "residual_multiplier", "number", 1.0, gguf="residual_scale"),
        Option("logit_scale", "logits_scaling", "number", 1.0, gguf="logit_scale"),
    ),
    keys=(ROTARY, *IMPLIED),
    extra=only_full,
    apr_config=False,
)
