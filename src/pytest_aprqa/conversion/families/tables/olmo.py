"""OLMo-2: norms after attention and feed-forward, queries and keys normed over all heads."""

from __future__ import annotations

from pytest_aprqa.conversion.families.family_table import Family, TensorRule
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
    positions,
    rms_eps,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import only_full

OLMO2 = Family(
    name="olmo2",
    model_types=("olmo2",),
    architectures=("Olmo2ForCausalLM",),
    arch="olmo2",
    options=(
        *sizes(vocab_key=False),
        kv_heads(),
        positions(2048),
        rms_eps(1e-5),
        activation("silu"),
        never("attention_bias", "attention_bias"),
        tied(False),
    ),
    keys=IMPLIED,
    tensors=(
        EMBEDDING,
        *attention(),
        *head_norms("q", "kv"),
        TensorRule(LAYER + "post_attention_layernorm", BLOCK + "post_attention_norm", ("hidden",)),
        *gated(),
        TensorRule(LAYER + "post_feedforward_layernorm", BLOCK + "post_ffw_norm", ("hidden",)),
        NORM,
        HEAD,
    ),
    extra=only_full,
    head_needed=True,
)
