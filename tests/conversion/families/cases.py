"""The models that are made, at least one for each family and each of its variations."""

from __future__ import annotations

from typing import Any

from tests.conversion.families.small_models import POSITIONS, Case


def _rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {**{"rope_type": kind, "rope_theta": 10_000.0}, **more}}


GELU = 1e-6
"""llama.cpp looks GELU up in a table of half floats (ggml_vec_gelu_f32), and knows only the tanh
form, where Falcon has the exact one: 3e-9 to 6e-8 measured. All else is 4e-12 and below."""

_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
_GPT2_LACKS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings"),
)
_FALCON_LACKS = ("intermediate_size", "num_key_value_heads")
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT: dict[str, Any] = {
    **{"num_key_value_heads": 4, "kv_lora_rank": 32, "qk_nope_head_dim": 32},
    **{"qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 4, "n_shared_experts": 2},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 32, "first_k_dense_replace": 1},
    "routed_scaling_factor": 1.5,
}

CASES = (
    Case("llama", "llama"),
    Case(
        "llama-3",
        "llama",
        {
            **{"head_dim": 32, "attention_bias": True, "mlp_bias": True},
            "tie_word_embeddings": True,
            "rope_parameters": {
                **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0},
                **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
                "original_max_position_embeddings": 32,
            },
        },
    ),
    Case("llama-linear", "llama", _rope("linear", factor=4.0)),
    Case(
        "llama-yarn",
        "llama",
        _rope("yarn", factor=4.0, original_max_position_embeddings=32),
    ),
    Case("mistral", "mistral", {"sliding_window": None, "head_dim": 32}),
    Case("mistral-window", "mistral", {"sliding_window": POSITIONS}),
    Case("qwen2", "qwen2"),
    Case(
        "qwen2-yarn",
        "qwen2",
        _rope("yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=32, beta_slow=1),
    ),
    Case("qwen2-tied", "qwen2", {"tie_word_embeddings": True}),
    Case("qwen3", "qwen3", {"head_dim": 32}),
    Case("phi3", "phi3"),
    Case(
        "phi3-long",
        "phi3",
        {
            "original_max_position_embeddings": 16,
            "rope_parameters": {
                **{"rope_type": "longrope", "rope_theta": 10_000.0},
                **{"partial_rotary_factor": 0.5},
                "short_factor": [1.0, 1.5, 2.0, 2.5],
                "long_factor": [1.0, 3.0, 5.0, 9.0],
            },
        },
    ),
    Case(
        "phi3-short",
        "phi3",
        {
            **{"original_max_position_embeddings": 256, "max_position_embeddings": 1024},
            "rope_parameters": {
                **{"rope_type": "longrope", "rope_theta": 10_000.0},
                **{"partial_rotary_factor": 0.5},
                "short_factor": [1.0, 1.5, 2.0, 2.5],
                "long_factor": [1.0, 3.0, 5.0, 9.0],
            },
        },
    ),
    Case(
        "granite",
        "granite",
        {
            **{"attention_multiplier": 0.3, "embedding_multiplier": 6.0},
            **{"residual_multiplier": 0.5, "logits_scaling": 4.0},
            **{"attention_bias": True, "mlp_bias": True},
        },
    ),
    Case("olmo2", "olmo2"),
    Case("olmo2-tied", "olmo2", {"tie_word_embeddings": True}),
    Case("starcoder2", "starcoder2", floor=GELU),
    Case("stablelm", "stablelm", {"use_qkv_bias": True}),
    Case("stablelm-2", "stablelm", {"qk_layernorm": True, "use_parallel_residual": True}),
    Case(
        "stablelm-theta",
        "stablelm",
        _rope("default", partial_rotary_factor=0.5, rope_theta=500_000.0),
    ),
    Case("gpt2", "gpt2", _GPT2, GELU, without=_GPT2_LACKS),
    Case(
        "gpt2-untied",
        "gpt2",
        {**_GPT2, "n_inner": 96, "tie_word_embeddings": False},
        floor=GELU,
        without=_GPT2_LACKS,
    ),
    Case(
        "gemma2", "gemma2", {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}, GELU
    ),
    Case(
        "gemma3",
        "gemma3_text",
        {
            **{"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8},
            "num_hidden_layers": 7,
        },
        GELU,
    ),
    Case(
        "gemma3-linear",
        "gemma3_text",
        {
            **{"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8},
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20_000.0},
            },
        },
        GELU,
    ),
    Case("qwen3_moe", "qwen3_moe", {**_EXPERTS, "head_dim": 32, "norm_topk_prob": True}),
    Case("falcon-7b", "falcon", {"multi_query": True}, floor=GELU, without=_FALCON_LACKS),
    Case("falcon-old", "falcon", {"multi_query": False}, floor=GELU, without=_FALCON_LACKS),
    Case(
        "falcon-40b",
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        floor=GELU,
        without=_FALCON_LACKS,
    ),
    Case(
        "falcon-11b",
        "falcon",
        {
            **{"new_decoder_architecture": True, "num_kv_heads": 2},
            **{"num_ln_in_parallel_attn": 1, "tie_word_embeddings": False},
        },
        floor=GELU,
        without=_FALCON_LACKS,
    ),
    Case("deepseek_v2", "deepseek_v2", {**_LATENT, "q_lora_rank": 32}),
    Case(
        "deepseek_v2-lite",
        "deepseek_v2",
        {
            **{**_LATENT, "q_lora_rank": None, "num_hidden_layers": 27},
            **_rope(
                "yarn",
                **{"factor": 4.0, "original_max_position_embeddings": 32},
                **{"beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707},
            ),
        },
    ),
)
