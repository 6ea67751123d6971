"""DeepSeek-V2: attention over a latent, experts beside shared ones, first layers dense."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    EMBEDDING,
    HEAD,
    LAYER,
    NORM,
    activation,
    gated,
    never,
    norms,
    positions,
    rms_eps,
    sizes,
    tied,
)
from pytest_aprqa.conversion.families.tables.moe import experts
from pytest_aprqa.conversion.families.tables.windows import only_full

_ATTENTION, _SHARED = LAYER + "self_attn.", LAYER + "mlp.shared_experts."


def _latent(settings: dict[str, Any]) -> None:
    heads, rope = settings["heads"], settings["rope_dim"]
    settings["head_dim"] = settings["nope"] + rope
    settings["q_rows"] = heads * settings["head_dim"]
    settings["kv_a"] = settings["kv_rank"] + rope
    settings["kv_b"] = heads * (settings["nope"] + settings["v_dim"])
    settings["values"] = heads * settings["v_dim"]
    settings["shared_inter"] = settings["shared"] * settings["expert_inter"]
    settings["one"] = 1  # all heads attend to the one latent
    layers, vocab = settings["layers"], settings["vocab"]
    settings["q_lora_rank unset"] = settings["q_rank"] is None
    settings["lite"] = layers in (26, 27) or (layers == 48 and vocab == 128_256)
    settings["normed"] = settings["norm_topk"] or None


def _read(reader: Any, settings: dict[str, Any]) -> None:
    only_full(reader, settings)
    for key, size in (("head_dim", settings["rope_dim"]), ("qk_head_dim", settings["head_dim"])):
        if reader.get(key) not in (None, size):
            raise reader.fail(key, f"none or {size}, as the other sizes make it")
    if settings["kv_heads"] != settings["heads"]:
        raise reader.fail("num_key_value_heads", f"{settings['heads']}, as many as heads")


def _restore(
    config: dict[str, Any], settings: Settings, keys: Mapping[str, Any], tensors: Collection[str]
) -> None:
    config["qk_nope_head_dim"] = keys["attention.key_length_mla"] - settings["rope_dim"]
    config["num_key_value_heads"] = settings["heads"]


def _part(hf: str, gguf: str, *shape: str, when: str = "", order: str = "") -> TensorRule:
    return TensorRule(_ATTENTION + hf, BLOCK + gguf, shape, when=when, order=order)


def _shared(which: str, *shape: str) -> TensorRule:
    return TensorRule(f"{_SHARED}{which}_proj", f"{BLOCK}ffn_{which}_shexp", shape, when="moe")


DEEPSEEK2 = Family(
    name="deepseek_v2",
    model_types=("deepseek_v2",),
    architectures=("DeepseekV2ForCausalLM",),
    arch="deepseek2",
    options=(
        *sizes(vocab_key=True),
        Option("kv_heads", "num_key_value_heads", "count", lambda settings: settings["heads"]),
        positions(2048),
        rms_eps(1e-6),
        activation("silu"),
        never("attention_bias", "attention_bias"),
        never("mlp_bias", "mlp_bias"),
        tied(False),
        Option("q_rank", "q_lora_rank", "count", None, gguf="attention.q_lora_rank", optional=True),
        Option("kv_rank", "kv_lora_rank", "count", 512, gguf="attention.kv_lora_rank"),
        Option("nope", "qk_nope_head_dim", "count", 128),
        Option("rope_dim", "qk_rope_head_dim", "count", 64, gguf="rope.dimension_count"),
        Option("v_dim", "v_head_dim", "count", 128, gguf="attention.value_length_mla"),
        Option("dense_lead", "first_k_dense_replace", "whole", 0, gguf="leading_dense_block_count"),
        Option("experts", "n_routed_experts", "count", 64, gguf="expert_count"),
        Option("experts_used", "num_experts_per_tok", "count", gguf="expert_used_count"),
        Option(
            *("expert_inter", "moe_intermediate_size", "count", 1407),
            gguf="expert_feed_forward_length",
        ),
        Option("shared", "n_shared_experts", "count", 2, gguf="expert_shared_count"),
        Option(
            *("routed_scale", "routed_scaling_factor", "number", 1.0),
            gguf="expert_weights_scale",
            optional=True,
        ),
        Option("norm_topk", "norm_topk_prob", "flag", False),
        Option("method", "topk_method", "text", "greedy"),
        Option("groups", "n_group", "count", None, gguf="expert_group_count", optional=True),
        Option(
            *("groups_used", "topk_group", "count", None),
            gguf="expert_group_used_count",
            optional=True,
        ),
        Option("scoring", "scoring_func", "text", "softmax", allowed=("softmax",)),
        Option("every", "moe_layer_freq", "count", 1, allowed=(1,)),
    ),
    keys=(
        GgufKey("attention.head_count_kv", "uint32", "one"),
        GgufKey("attention.key_length", "uint32", "kv_a"),
        GgufKey("attention.value_length", "uint32", "kv_rank"),
        GgufKey("attention.key_length_mla", "uint32", "head_dim"),
        GgufKey("expert_weights_norm", "bool", "normed"),
    ),
    tensors=(
        EMBEDDING,
        *norms(),
        _part("q_proj", "attn_q", "q_rows", "hidden", when="!q_rank"),
        _part("q_a_proj", "attn_q_a", "q_rank", "hidden", when="q_rank"),
        _part("q_a_layernorm", "attn_q_a_norm", "q_rank", when="q_rank"),
        _part("q_b_proj", "attn_q_b", "q_rows", "q_rank", when="q_rank"),
        _part("kv_a_proj_with_mqa", "attn_kv_a_mqa", "kv_a", "hidden"),
        _part("kv_a_layernorm", "attn_kv_a_norm", "kv_rank"),
        _part("kv_b_proj", "", "kv_b", "kv_rank", order="kv_b"),
        _part("o_proj", "attn_output", "hidden", "values"),
        *gated(when="dense"),
        *experts(when="moe"),
        _shared("gate", "shared_inter", "hidden"),
        _shared("up", "shared_inter", "hidden"),
        _shared("down", "hidden", "shared_inter"),
        NORM,
        HEAD,
    ),
    rope=RopeTable(types=("default", "yarn"), dim="rope_dim", adjacent=True),
    limits=(
        Limit("method", ("greedy",), "llama.cpp chooses among groups of experts as DeepSeek-V3"),
        Limit("groups", (None, 1), "llama.cpp would choose among groups"),
        Limit("eps", (1e-6,), "transformers' norms of the latents have no other"),
        Limit(
            *("q_lora_rank unset", "lite"),
            "llama.cpp takes models of 26 or 27 layers (48 with 128256 tokens) for ones without, "
            "and no others",
        ),
        Limit("norm_topk", (False,), "transformers ignores it in this family, llama.cpp does not"),
    ),
    early=_latent,
    extra=_read,
    restore=_restore,
    head_needed=True,
)
