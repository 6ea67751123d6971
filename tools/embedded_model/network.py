"""The shape of the network, and writing it as a model directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from embedded_model.tokenizer import (
    CONTEXT_LENGTH,
    END_OF_TEXT_ID,
    TURN_END_ID,
    VOCABULARY_SIZE,
    save_tokenizer,
)


def configuration() -> Qwen2Config:
    """Return the configuration of the 1.94 M-parameter network."""
    return Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=TURN_END_ID,
        pad_token_id=END_OF_TEXT_ID,
        attention_dropout=0.0,
        use_sliding_window=False,
        initializer_range=0.02,
    )


def new_network(seed: int) -> Qwen2ForCausalLM:
    """Build the network with seeded random weights in single precision."""
    torch.manual_seed(seed)
    network: Qwen2ForCausalLM = Qwen2ForCausalLM(configuration())
    return network


def export(weights: dict[str, torch.Tensor], tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model directory: bf16 weights, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder)
    _write_json(folder / "config.json", _settings())
    _write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": END_OF_TEXT_ID,
            "do_sample": False,
            "eos_token_id": [TURN_END_ID, END_OF_TEXT_ID],
            "pad_token_id": END_OF_TEXT_ID,
        },
    )
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in weights.items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    path = folder / "model.safetensors"
    save_file(tensors, str(path), metadata={"format": "pt"})
    path.chmod(0o644)


def _settings() -> dict[str, Any]:
    settings: dict[str, Any] = configuration().to_dict()
    for unused in ("_name_or_path", "id2label", "label2id", "problem_type"):
        settings.pop(unused, None)
    settings.update(
        architectures=["Qwen2ForCausalLM"],
        dtype="bfloat16",
        rope_theta=10000.0,  # where older readers look for it
    )
    return settings


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
