"""GPT-2: learned positions, and matrices that lie [in, out], transposed for llama.cpp."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.conversion.families.family_table import Family, Limit, Option, TensorRule
from pytest_aprqa.conversion.families.tables.common import (
    BLOCK,
    IMPLIED,
    layer_eps,
    never,
    positions,
    tied,
)

_LAYER, _APR = "transformer.h.{n}.", "model.layers.{n}."


def _conv(hf: str, gguf: str, shape: tuple[str, str], apr: str) -> TensorRule:
    """A linear layer as GPT-2's Conv1D stores it; APR keeps it so."""
    return TensorRule(
        *(_LAYER + hf, BLOCK + gguf, shape, "yes"),
        transposed=True,
        apr=((_APR + apr, shape[0]),),
    )


def _norm(hf: str, gguf: str, apr: str) -> TensorRule:
    return TensorRule(hf, gguf, ("hidden",), "yes", apr=((apr, "hidden"),))


def _read(reader: Any, settings: dict[str, Any]) -> None:
    settings["hidden3"] = 3 * settings["hidden"]
    if reader.get("n_ctx") not in (None, settings["positions"]):
        raise reader.fail("n_ctx", f"none or {settings['positions']}, as n_positions")


GPT2 = Family(
    name="gpt2",
    model_types=("gpt2",),
    architectures=("GPT2LMHeadModel",),
    arch="gpt2",
    options=(
        Option("vocab", "vocab_size", "count", shape=("token_embd.weight", 0)),
        Option("hidden", "n_embd", "count", gguf="embedding_length"),
        Option(
            *("inter", "n_inner", "count", lambda settings: 4 * settings["hidden"]),
            gguf="feed_forward_length",
        ),
        Option("layers", "n_layer", "count", gguf="block_count"),
        Option("heads", "n_head", "count", gguf="attention.head_count"),
        positions(1024, "n_positions"),
        layer_eps("layer_norm_epsilon", 1e-5),
        Option(
            *("act", "activation_function", "text", "gelu_new"),
            allowed=("gelu_new", "gelu_pytorch_tanh"),  # two names of one function
        ),
        Option("scaled", "scale_attn_weights", "flag", True),
        never("by_layer", "scale_attn_by_inverse_layer_idx"),
        never("cross", "add_cross_attention"),
        tied(True),
    ),
    keys=IMPLIED,
    tensors=(
        TensorRule(
            *("transformer.wte", "token_embd", ("vocab", "hidden")),
            apr=(("model.embed_tokens", "vocab"),),
        ),
        TensorRule(
            *("transformer.wpe", "position_embd", ("positions", "hidden")),
            apr=(("model.position_embedding", "positions"),),
        ),
        _norm(_LAYER + "ln_1", BLOCK + "attn_norm", _APR + "input_layernorm"),
        TensorRule(
            *(_LAYER + "attn.c_attn", BLOCK + "attn_qkv", ("hidden", "hidden3"), "yes"),
            transposed=True,
            apr=tuple((f"{_APR}self_attn.{one}_proj", "hidden") for one in "qkv"),
            apr_order="columns",
        ),
        _conv("attn.c_proj", "attn_output", ("hidden", "hidden"), "self_attn.o_proj"),
        _norm(_LAYER + "ln_2", BLOCK + "ffn_norm", _APR + "post_attention_layernorm"),
        _conv("mlp.c_fc", "ffn_up", ("hidden", "inter"), "mlp.up_proj"),
        _conv("mlp.c_proj", "ffn_down", ("inter", "hidden"), "mlp.down_proj"),
        _norm("transformer.ln_f", "output_norm", "model.norm"),
        TensorRule("lm_head", "output", ("vocab", "hidden"), when="!tied"),
    ),
    rope=None,
    limits=(Limit("scaled", (True,), "llama.cpp always scales attention by the head size"),),
    inert=("reorder_and_upcast_attn", "layer_norm_elementwise_affine"),
    extra=_read,
    prefix="transformer.",
    buffers=r".*\.attn\.(masked_)?bias",
)
