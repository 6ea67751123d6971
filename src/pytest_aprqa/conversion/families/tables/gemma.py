"""Gemma 2 and Gemma 3 (text): norms multiply by one plus their weight; layers with a window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from pytest_aprqa.conversion.families.family_table import (
    Extra,
    Family,
    GgufKey,
    Limit,
    Option,
    Restore,
    RopeTable,
    Settings,
    TensorRule,
)
from pytest_aprqa.conversion.families.tables.common import (
    BLOCK,
    EMBEDDING,
    HEAD,
    IMPLIED,
    LAYER,
    NORM,
    activation,
    attention,
    gated,
    head_norms,
    kv_heads,
    never,
    norms,
    positions,
    rms_eps,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import every

_SCALE = "llama.cpp scales queries by the head size, in 27B models by hidden size over heads"
_TIED = Limit("tied", (True,), "llama.cpp's head is the embedding")


def _usual_scale(settings: Settings, largest: int) -> int:
    """llama.cpp knows the 27B model, which scales otherwise, by its number of layers."""
    if settings["layers"] == largest:
        return int(settings["hidden"] // settings["heads"])
    return int(settings["head_dim"])


def _read(period: int, largest: int, *keys: str) -> Extra:
    windows = every(period, *keys)

    def read(reader: Any, settings: dict[str, Any]) -> None:
        windows(reader, settings)
        settings["usual_scale"] = _usual_scale(settings, largest)

    return read


def _restore(largest: int) -> Restore:
    def restore(
        config: dict[str, Any],
        settings: Settings,
        keys: Mapping[str, Any],
        tensors: Collection[str],
    ) -> None:
        config["query_pre_attn_scalar"] = _usual_scale(settings, largest)

    return restore


def _shifted(*rules: TensorRule) -> tuple[TensorRule, ...]:
    return tuple(replace(rule, plus_one=True) for rule in rules)


_LENGTHS = (GgufKey("attention.value_length", "uint32", "head_dim"), *IMPLIED)
_NORMS = (
    *norms("input_layernorm", "pre_feedforward_layernorm"),
    TensorRule(LAYER + "post_attention_layernorm", BLOCK + "post_attention_norm", ("hidden",)),
    TensorRule(LAYER + "post_feedforward_layernorm", BLOCK + "post_ffw_norm", ("hidden",)),
)


def _options(head_dim: int, heads: int, longest: int) -> tuple[Option, ...]:
    return (
        *sizes(vocab_key=False),
        kv_heads(heads),
        Option("head_dim", "head_dim", "count", head_dim, gguf="attention.key_length"),
        positions(longest),
        rms_eps(1e-6),
        activation("gelu_pytorch_tanh", "hidden_activation"),
        never("attention_bias", "attention_bias"),
        never("bidirectional", "use_bidirectional_attention"),
        tied(True),
        Option("window", "sliding_window", "count", 4096, gguf="attention.sliding_window"),
        Option("query_scale", "query_pre_attn_scalar", "number", 256),
    )


GEMMA2 = Family(
    name="gemma2",
    model_types=("gemma2",),
    architectures=("Gemma2ForCausalLM",),
    arch="gemma2",
    options=(
        *_options(256, 4, 8192),
        Option("attn_cap", "attn_logit_softcapping", "number", gguf="attn_logit_softcapping"),
        Option("final_cap", "final_logit_softcapping", "number", gguf="final_logit_softcapping"),
    ),
    keys=_LENGTHS,
    tensors=(EMBEDDING, *_shifted(*_NORMS), *attention(), *gated(), *_shifted(NORM), HEAD),
    rope=RopeTable(types=("default",), theta_written=False),
    limits=(_TIED, Limit("query_scale", "usual_scale", _SCALE)),
    inert=("hidden_act",),  # Gemma's hidden_activation is what counts
    extra=_read(2, 46),
    restore=_restore(46),
)

GEMMA3 = Family(
    name="gemma3",
    model_types=("gemma3_text",),
    architectures=("Gemma3ForCausalLM",),
    arch="gemma3",
    options=(
        *_options(256, 4, 131_072),
        Option("attn_cap", "attn_logit_softcapping", "number", None, allowed=(None,)),
        Option("final_cap", "final_logit_softcapping", "number", None, allowed=(None,)),
    ),
    keys=_LENGTHS,
    tensors=(
        EMBEDDING,
        *_shifted(*_NORMS),
        *attention(),
        *_shifted(*head_norms()),
        *gated(),
        *_shifted(NORM),
        HEAD,
    ),
    rope=RopeTable(types=("default", "linear"), local=True),
    limits=(_TIED, Limit("query_scale", "usual_scale", _SCALE)),
    inert=("hidden_act",),
    extra=_read(6, 62, "sliding_window_pattern", "_sliding_window_pattern"),
    restore=_restore(62),
)
