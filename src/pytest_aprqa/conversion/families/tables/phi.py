"""Phi-3 and Phi-4: query, key and value in one matrix, gate and up in another, as in GGUF."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from pytest_aprqa.conversion.families.family_table import (
    Family,
    GgufKey,
    Option,
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
    kv_heads,
    norms,
    positions,
    rms_eps,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import only_full


def _no_window(
    config: dict[str, Any], settings: Settings, keys: Mapping[str, Any], tensors: Collection[str]
) -> None:
    config["sliding_window"] = settings["window"] or None


_ATTENTION, _MLP = LAYER + "self_attn.", LAYER + "mlp."

PHI3 = Family(
    name="phi3",
    model_types=("phi3",),
    architectures=("Phi3ForCausalLM",),
    arch="phi3",
    options=(
        *sizes(vocab_key=False),
        kv_heads(),
        positions(4096),
        rms_eps(1e-5),
        activation("silu"),
        tied(False),
        # llama.cpp ignores the window, and takes 0 for a model without one.
        Option(
            *("window", "sliding_window", "whole", 0),
            gguf="attention.sliding_window",
            optional=True,
        ),
    ),
    keys=(
        GgufKey("rope.dimension_count", "uint32", "rotary"),
        *IMPLIED,
    ),
    tensors=(
        EMBEDDING,
        *norms(),
        TensorRule(
            _ATTENTION + "qkv_proj",
            BLOCK + "attn_qkv",
            ("qkv", "hidden"),
            apr=tuple(
                (f"{_ATTENTION}{one}_proj", size)
                for one, size in zip("qkv", ("q", "kv", "kv"), strict=True)
            ),
        ),
        TensorRule(_ATTENTION + "o_proj", BLOCK + "attn_output", ("hidden", "q")),
        TensorRule(
            _MLP + "gate_up_proj",
            BLOCK + "ffn_up",
            ("inter2", "hidden"),
            apr=((_MLP + "gate_proj", "inter"), (_MLP + "up_proj", "inter")),
        ),
        TensorRule(_MLP + "down_proj", BLOCK + "ffn_down", ("hidden", "inter")),
        NORM,
        HEAD,
    ),
    rope=RopeTable(types=("default", "longrope"), partial=1.0, original_key=True),
    neutral=MappingProxyType({"full_attn_mod": 1, "interpolate_factor": 1}),
    extra=only_full,
    restore=_no_window,
    window_ignored=True,
)
