"""What published models' config.json say, each in the spelling of its time (sizes shortened)."""

from __future__ import annotations

from typing import Any

_COMMON: dict[str, Any] = {
    **{"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32_768},
    **{"bos_token_id": 1, "eos_token_id": [2, 3], "torch_dtype": "bfloat16", "use_cache": True},
    **{"initializer_range": 0.02, "transformers_version": "4.45.0", "attention_dropout": 0.0},
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "llama": {
        **_COMMON,
        **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu"},
        **{"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "rms_norm_eps": 1e-5},
        **{"rope_theta": 500_000.0, "tie_word_embeddings": True, "head_dim": 16},
        "rope_scaling": {
            **{"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0},
            **{"original_max_position_embeddings": 8192, "rope_type": "llama3"},
        },
    },
    "mistral": {
        **_COMMON,
        **{"model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_act": "silu"},
        **{"rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "sliding_window": None},
        "tie_word_embeddings": False,
    },
    "qwen2": {
        **_COMMON,
        **{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu"},
        **{"max_window_layers": 21, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0},
        **{"sliding_window": 32_768, "use_sliding_window": False, "tie_word_embeddings": True},
    },
    "qwen3": {
        **_COMMON,
        **{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu"},
        **{"attention_bias": False, "head_dim": 32, "max_window_layers": 28, "rms_norm_eps": 1e-6},
        **{"rope_scaling": None, "rope_theta": 1_000_000, "sliding_window": None},
        **{"tie_word_embeddings": True, "use_sliding_window": False},
    },
    "qwen3_moe": {
        **_COMMON,
        **{"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]},
        **{"hidden_act": "silu", "decoder_sparse_step": 1, "head_dim": 32, "mlp_only_layers": []},
        **{"moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 4},
        **{"num_experts_per_tok": 2, "output_router_logits": False, "rms_norm_eps": 1e-6},
        **{"rope_theta": 1_000_000.0, "router_aux_loss_coef": 0.001, "use_sliding_window": False},
        **{"tie_word_embeddings": False, "max_window_layers": 48},
    },
    "gemma2": {
        **_COMMON,
        **{"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "head_dim": 256},
        **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        **{"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh"},
        **{"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256},
        **{"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "sliding_window": 4096},
    },
    "gemma3": {
        **_COMMON,
        **{"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "head_dim": 256},
        **{"attn_logit_softcapping": None, "final_logit_softcapping": None},
        **{"cache_implementation": "hybrid", "hidden_activation": "gelu_pytorch_tanh"},
        **{"query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10_000},
        **{"rope_scaling": None, "rope_theta": 1_000_000, "sliding_window": 512},
        "sliding_window_pattern": 6,
    },
    "phi3": {
        **_COMMON,
        **{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "hidden_act": "silu"},
        **{"attention_bias": False, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "rms_norm_eps": 1e-5},
        **{"original_max_position_embeddings": 4096, "rope_scaling": None, "rope_theta": 10_000.0},
        **{"sliding_window": 2047, "tie_word_embeddings": False},
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    },
    "phi4": {
        **_COMMON,
        **{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "hidden_act": "silu"},
        **{"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False},
        **{"original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75},
        **{"rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "tie_word_embeddings": True},
        "sliding_window": 262_144,
        "rope_scaling": {
            **{"long_factor": [1.0, 1.1, 1.3, 2.0, 3.0, 5.0], "type": "longrope"},
            "short_factor": [1.0] * 6,
        },
    },
    "granite": {
        **_COMMON,
        **{"model_type": "granite", "architectures": ["GraniteForCausalLM"], "hidden_act": "silu"},
        **{"attention_bias": False, "attention_multiplier": 0.015625, "mlp_bias": False},
        **{"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22},
        **{"rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 5_000_000.0},
        "tie_word_embeddings": True,
    },
    "olmo2": {
        **_COMMON,
        **{"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "hidden_act": "silu"},
        **{"attention_bias": False, "rms_norm_eps": 1e-6, "rope_scaling": None},
        **{"rope_theta": 500_000, "tie_word_embeddings": False},
    },
    "starcoder2": {
        **_COMMON,
        **{"model_type": "starcoder2", "architectures": ["Starcoder2ForCausalLM"]},
        **{"attention_softmax_in_fp32": True, "embedding_dropout": 0.1, "mlp_type": "default"},
        **{"hidden_act": "gelu_pytorch_tanh", "norm_epsilon": 1e-5, "norm_type": "layer_norm"},
        **{"residual_dropout": 0.1, "rope_theta": 999_999.4420358813, "use_bias": True},
        **{"scale_attention_softmax_in_fp32": True, "scale_attn_weights": True},
        "sliding_window": 4096,
    },
    "stablelm": {
        **_COMMON,
        **{"model_type": "stablelm", "architectures": ["StableLmForCausalLM"]},
        **{"hidden_act": "silu", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25},
        **{"hidden_dropout": 0.0, "qk_layernorm": True, "rope_scaling": None, "rope_theta": 10_000},
        **{"rotary_scaling_factor": 1.0, "use_parallel_residual": True, "use_qkv_bias": False},
        "tie_word_embeddings": False,
    },
    "falcon": {
        **{"model_type": "falcon", "architectures": ["FalconForCausalLM"], "alibi": False},
        **{"apply_residual_connection_post_layernorm": False, "bias": False, "multi_query": True},
        **{"hidden_dropout": 0.0, "hidden_size": 64, "layer_norm_epsilon": 1e-5},
        **{"new_decoder_architecture": False, "num_attention_heads": 4, "num_hidden_layers": 2},
        **{"num_kv_heads": 4, "parallel_attn": True, "vocab_size": 64, "eos_token_id": 11},
    },
    "deepseek_v2": {
        **_COMMON,
        **{"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"]},
        **{"num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": 27},
        **{"attention_bias": False, "aux_loss_alpha": 0.001, "ep_size": 1, "hidden_act": "silu"},
        **{"first_k_dense_replace": 1, "kv_lora_rank": 64, "moe_intermediate_size": 32},
        **{"moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 4, "n_shared_experts": 2},
        **{"norm_topk_prob": False, "num_experts_per_tok": 2, "pretraining_tp": 1},
        **{"q_lora_rank": None, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16},
        **{"rms_norm_eps": 1e-6, "rope_theta": 10_000, "routed_scaling_factor": 1.0},
        **{"scoring_func": "softmax", "seq_aux": True, "tie_word_embeddings": False},
        **{"topk_group": 1, "topk_method": "greedy", "v_head_dim": 32},
        "rope_scaling": {
            **{"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "type": "yarn"},
            **{"mscale_all_dim": 0.707, "original_max_position_embeddings": 4096},
        },
    },
    "gpt2": {
        **{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 64},
        **{"activation_function": "gelu_new", "attn_pdrop": 0.1, "embd_pdrop": 0.1},
        **{"layer_norm_epsilon": 1e-5, "n_ctx": 1024, "n_embd": 64, "n_head": 4, "n_layer": 2},
        **{"n_positions": 1024, "resid_pdrop": 0.1, "summary_type": "cls_index"},
        **{"summary_use_proj": True, "summary_first_dropout": 0.1, "eos_token_id": 50_256},
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    },
}
