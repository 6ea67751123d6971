"""StarCoder2: layer norms and biases everywhere, a feed-forward network without a gate."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from pytest_aprqa.conversion.families.family_table import Family, Limit, Option, TensorRule
from pytest_aprqa.conversion.families.tables.common import (
    BLOCK,
    EMBEDDING,
    HEAD,
    IMPLIED,
    LAYER,
    NORM,
    activation,
    attention,
    kv_heads,
    layer_eps,
    norms,
    positions,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import one_window

_MLP = LAYER + "mlp."

STARCODER2 = Family(
    name="starcoder2",
    model_types=("starcoder2",),
    architectures=("Starcoder2ForCausalLM",),
    arch="starcoder2",
    options=(
        *sizes(vocab_key=False),
        kv_heads(2),
        positions(4096),
        layer_eps("norm_epsilon", 1e-5),
        activation("gelu_pytorch_tanh"),
        Option("bias", "use_bias", "flag", True, tensor="blk.0.attn_q.bias"),
        tied(True),
        # llama.cpp ignores the window: beyond it, it sees more than transformers does.
        Option(
            *("window", "sliding_window", "count", None),
            gguf="attention.sliding_window",
            optional=True,
        ),
    ),
    keys=IMPLIED,
    tensors=(
        EMBEDDING,
        *(replace(rule, bias="yes") for rule in norms()),
        *attention(bias="bias", out_bias="bias"),
        TensorRule(
            *(_MLP + "c_fc", BLOCK + "ffn_up", ("inter", "hidden"), "bias"),
            apr=((_MLP + "up_proj", "inter"),),
        ),
        TensorRule(
            *(_MLP + "c_proj", BLOCK + "ffn_down", ("hidden", "inter"), "bias"),
            apr=((_MLP + "down_proj", "hidden"),),
        ),
        replace(NORM, bias="yes"),
        HEAD,
    ),
    limits=(Limit("bias", (True,), "llama.cpp loads no file without them"),),
    # What the first published configs say besides.
    neutral=MappingProxyType(
        {
            **{"activation_function": "gelu_pytorch_tanh", "norm_type": "layer_norm"},
            **{"mlp_type": "default", "scale_attn_weights": True},
        }
    ),
    inert=("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"),
    extra=one_window,
    window_ignored=True,
)
