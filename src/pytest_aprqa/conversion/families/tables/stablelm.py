"""StableLM: a part of each head is rotated; norms of queries and keys, one for each head."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from pytest_aprqa.conversion.families.family_table import (
    Family,
    GgufKey,
    Option,
    RopeTable,
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
    kv_heads,
    layer_eps,
    norms,
    positions,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import only_full

_BEFORE, _BETWEEN = norms()


def _norms(which: str, count: str) -> TensorRule:
    return TensorRule(
        LAYER + f"self_attn.{which}_layernorm.norms.{{e}}",
        BLOCK + f"attn_{which}_norm",
        ("head_dim",),
        when="qk_norm",
        count=count,
    )


STABLELM = Family(
    name="stablelm",
    model_types=("stablelm",),
    architectures=("StableLmForCausalLM",),
    arch="stablelm",
    options=(
        *sizes(vocab_key=False),
        kv_heads(32),
        positions(4096),
        layer_eps("layer_norm_eps", 1e-5),
        activation("silu"),
        Option("qkv_bias", "use_qkv_bias", "flag", False, tensor="blk.0.attn_q.bias"),
        Option("qk_norm", "qk_layernorm", "flag", False, tensor="blk.0.attn_q_norm.weight"),
        Option("parallel", "use_parallel_residual", "flag", False, gguf="use_parallel_residual"),
        tied(False),
    ),
    keys=(GgufKey("rope.dimension_count", "uint32", "rotary"), *IMPLIED),
    tensors=(
        EMBEDDING,
        replace(_BEFORE, bias="yes"),
        *attention(bias="qkv_bias"),
        _norms("q", "heads"),
        _norms("k", "kv_heads"),
        # llama.cpp knows a parallel residual by the lack of this norm.
        replace(_BETWEEN, bias="yes", when="!parallel"),
        *gated(),
        replace(NORM, bias="yes"),
        HEAD,
    ),
    rope=RopeTable(types=("default",), partial=0.25, theta_written=False),
    neutral=MappingProxyType({"rotary_scaling_factor": 1}),
    extra=only_full,
    head_needed=True,
)
