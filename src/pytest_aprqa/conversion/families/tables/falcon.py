"""Falcon: query, key and value in one matrix, in three arrangements; attention beside the MLP."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from pytest_aprqa.conversion.families.family_table import (
    Family,
    GgufKey,
    Limit,
    Option,
    RopeTable,
    Settings,
    TensorRule,
)
from pytest_aprqa.conversion.families.tables.common import (
    BLOCK,
    IMPLIED,
    activation,
    layer_eps,
    positions,
    tied,
)
from pytest_aprqa.conversion.families.tables.windows import only_full

_LAYER, _APR = "transformer.h.{n}.", "model.layers.{n}."


def _key_value_heads(settings: dict[str, Any]) -> None:
    """The three arrangements: groups (40B, 11B), one key and value for all (7B), one for each."""
    if settings["new"]:
        settings["kv_heads"] = settings["kv_given"] or settings["heads"]
    else:
        settings["kv_heads"] = 1 if settings["multi_query"] else settings["heads"]
    norms = settings["norms"] or 2
    settings["two_norms"] = settings["new"] and norms == 2
    settings["parallel"] = settings["new"] or settings["parallel_attn"]
    settings["layout"] = "jploski"  # the mark of unwoven rows, by llama.cpp's converter


def _restore(
    config: dict[str, Any], settings: Settings, keys: Mapping[str, Any], tensors: Collection[str]
) -> None:
    """GGUF tells groups and norms; where forms compute the same, the newer one is taken."""
    two = "blk.0.attn_norm_2.weight" in tensors
    single = keys.get("attention.head_count_kv") == 1 and not two
    config["num_kv_heads"] = keys.get("attention.head_count_kv", settings["heads"])
    config["num_ln_in_parallel_attn"] = None if single else 2 if two else 1
    config["new_decoder_architecture"] = not single
    config["multi_query"] = single
    config["parallel_attn"] = True


def _linear(hf: str, gguf: str, shape: tuple[str, str], apr: str) -> TensorRule:
    return TensorRule(
        *(_LAYER + hf, BLOCK + gguf, shape, "linear_bias"), apr=((_APR + apr, shape[0]),)
    )


def _norm(hf: str, gguf: str, apr: str, when: str = "") -> TensorRule:
    return TensorRule(hf, gguf, ("hidden",), "yes", when=when, apr=((apr, "hidden"),))


FALCON = Family(
    name="falcon",
    model_types=("falcon",),
    architectures=("FalconForCausalLM",),
    arch="falcon",
    options=(
        Option("vocab", "vocab_size", "count", shape=("token_embd.weight", 0)),
        Option("hidden", "hidden_size", "count", gguf="embedding_length"),
        Option("layers", "num_hidden_layers", "count", gguf="block_count"),
        Option("heads", "num_attention_heads", "count", gguf="attention.head_count"),
        Option("kv_given", "num_kv_heads", "count", None),
        Option(
            *("inter", "ffn_hidden_size", "count", lambda settings: 4 * settings["hidden"]),
            gguf="feed_forward_length",
        ),
        positions(2048),
        layer_eps("layer_norm_epsilon", 1e-5),
        activation("gelu", "activation"),
        Option("new", "new_decoder_architecture", "flag", False),
        Option("multi_query", "multi_query", "flag", True),
        Option("parallel_attn", "parallel_attn", "flag", True),
        Option("norms", "num_ln_in_parallel_attn", "count", None, allowed=(1, 2)),
        Option("linear_bias", "bias", "flag", False),
        Option("alibi", "alibi", "flag", False),
        tied(True),
    ),
    keys=(
        GgufKey("attention.head_count_kv", "uint32", "kv_heads"),
        GgufKey("tensor_data_layout", "string", "layout"),
        *IMPLIED,
    ),
    tensors=(
        TensorRule(
            *("transformer.word_embeddings", "token_embd", ("vocab", "hidden")),
            apr=(("model.embed_tokens", "vocab"),),
        ),
        # With two norms, the attention's own is llama.cpp's second one.
        _norm(_LAYER + "ln_mlp", BLOCK + "attn_norm", _APR + "ln_mlp", "two_norms"),
        _norm(_LAYER + "ln_attn", BLOCK + "attn_norm_2", _APR + "ln_attn", "two_norms"),
        _norm(
            _LAYER + "input_layernorm", BLOCK + "attn_norm", _APR + "input_layernorm", "!two_norms"
        ),
        TensorRule(
            _LAYER + "self_attention.query_key_value",
            BLOCK + "attn_qkv",
            ("qkv", "hidden"),
            "linear_bias",
            "grouped",
            apr=tuple(
                (f"{_APR}self_attn.{one}_proj", size)
                for one, size in zip("qkv", ("q", "kv", "kv"), strict=True)
            ),
            apr_order="grouped",
        ),
        _linear("self_attention.dense", "attn_output", ("hidden", "q"), "self_attn.o_proj"),
        _norm(
            *(_LAYER + "post_attention_layernorm", BLOCK + "ffn_norm"),
            *(_APR + "post_attention_layernorm", "!parallel"),
        ),
        _linear("mlp.dense_h_to_4h", "ffn_up", ("inter", "hidden"), "mlp.up_proj"),
        _linear("mlp.dense_4h_to_h", "ffn_down", ("hidden", "inter"), "mlp.down_proj"),
        _norm("transformer.ln_f", "output_norm", "model.norm"),
        TensorRule("lm_head", "output", ("vocab", "hidden"), when="!tied"),
    ),
    rope=RopeTable(types=("default",), theta_written=False),
    limits=(
        Limit("alibi", (False,), "llama.cpp rotates positions in this family"),
        Limit("parallel", (True,), "llama.cpp computes attention beside the MLP, never before it"),
        Limit("linear_bias", (False,), "llama.cpp loads no biases of this family"),
    ),
    neutral=MappingProxyType({"apply_residual_connection_post_layernorm": False, "ff_factor": 4}),
    early=_key_value_heads,
    extra=only_full,
    restore=_restore,
)
