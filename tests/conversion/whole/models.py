"""Small whole models: each family's weights together with its own kind of tokenizer.

Weights are random (`tests.conversion.families`), tokenizers are trained on our texts
(`tests.conversion.tokenizers`); `tokenizer_class` is what the family's published files name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.conversion.families.cases import CASES as FAMILY_CASES
from tests.conversion.families.small_models import randomise
from tests.conversion.tokenizers.kinds import kind

_AUTO: Any = transformers.AutoModelForCausalLM
_OPTIONS = {case.name: case for case in FAMILY_CASES}
_SIZES: dict[str, Any] = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128},
}
WIDE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 256}
"""Rows of 256 values, which K-quants need."""
_HEADS_OF_64: dict[str, Any] = {"head_dim": 64, "query_pre_attn_scalar": 64}


@dataclass(frozen=True)
class Whole:
    """A model to make: a case of `families`, a kind of `tokenizers`."""

    name: str
    family: str
    tokenizer: str
    tokenizer_class: str
    options: dict[str, Any] = field(default_factory=dict)
    padded: bool = False
    """Whether the embedding has rows beyond the tokenizer, as many published ones have."""


_LONGROPE = {
    **{"original_max_position_embeddings": 1024, "max_position_embeddings": 4096},
    "rope_parameters": {
        **{"rope_type": "longrope", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
        **{"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 3.0, 5.0, 9.0]},
    },
}
_IM = (
    *("", "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"),
    "<|im_start|>assistant\n",
)
_INST = ("{{ bos_token }}", "[INST] {{ m['content'] }} [/INST]", "")
_TURN = "<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
_HEADER = "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
_CHATS = {
    "llama-3": (
        *("{{ bos_token }}", _HEADER),
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    **dict.fromkeys(("llama-2", "mistral", "mistral-nemo"), _INST),
    **dict.fromkeys(("qwen2", "qwen3", "phi-4", "stablelm"), _IM),
    **dict.fromkeys(
        ("gemma", "gemma with plain runs"), ("{{ bos_token }}", _TURN, "<start_of_turn>model\n")
    ),
    "phi-3": ("", "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n", "<|assistant|>\n"),
    "olmo2": ("{{ bos_token }}", *_IM[1:]),
    "deepseek-v2": ("{{ bos_token }}", "<|User|>{{ m['content'] }}\n\n", "Assistant:"),
}
"""By kind of tokenizer, as published: before the messages `m`, for each, and for the answer."""
_PLAIN = ("", "{{ m['role'] }}: {{ m['content'] }}\n", "assistant:")
WHOLES = (
    Whole("llama-3", "llama-3", "llama-3", "PreTrainedTokenizerFast"),
    Whole("llama-2", "llama", "llama-2", "LlamaTokenizer"),
    Whole("mistral", "mistral", "mistral", "LlamaTokenizer"),
    Whole("mistral-nemo", "mistral", "mistral-nemo", "PreTrainedTokenizerFast"),
    Whole("qwen2", "qwen2", "qwen2", "Qwen2Tokenizer", padded=True),
    Whole("qwen3", "qwen3", "qwen3", "Qwen2Tokenizer"),
    Whole("qwen3-moe", "qwen3_moe", "qwen3", "Qwen2Tokenizer"),
    Whole("gemma-2", "gemma2", "gemma", "GemmaTokenizer"),
    Whole("gemma-3", "gemma3", "gemma with plain runs", "GemmaTokenizer"),
    Whole("phi-3", "phi3-long", "phi-3", "LlamaTokenizer", _LONGROPE, padded=True),
    Whole("phi-4", "phi3", "phi-4", "GPT2Tokenizer"),
    Whole("phi-4-mini", "phi3-long", "phi-4-mini", "GPT2Tokenizer", _LONGROPE),
    Whole("granite", "granite", "granite", "GPT2Tokenizer"),
    Whole("olmo-2", "olmo2", "olmo2", "GPT2Tokenizer"),
    Whole("starcoder-2", "starcoder2", "starcoder2", "GPT2Tokenizer"),
    Whole("stablelm-2", "stablelm-2", "stablelm", "GPT2Tokenizer"),
    Whole("falcon", "falcon-7b", "falcon", "PreTrainedTokenizerFast"),
    Whole("deepseek-v2", "deepseek_v2", "deepseek-v2", "LlamaTokenizerFast"),
    Whole("gpt-2", "gpt2", "gpt2", "GPT2Tokenizer"),
)
WIDE_WHOLES = (
    Whole("wide-llama-3", "llama-3", "llama-3", "PreTrainedTokenizerFast", WIDE | {"head_dim": 64}),
    Whole("wide-qwen2", "qwen2", "qwen2", "Qwen2Tokenizer", WIDE, padded=True),
    Whole("wide-gemma-2", "gemma2", "gemma", "GemmaTokenizer", WIDE | _HEADS_OF_64),
)


def make(whole: Whole, directory: Path) -> None:
    """Write the directory as its family's publishers would have."""
    case, made = _OPTIONS[whole.family], kind(whole.tokenizer)
    tokenizer = made.tokenizer
    settings = json.loads(made.files["tokenizer_config.json"])
    generation = json.loads(made.files["generation_config.json"])
    ids = {
        f"{name}_token_id": None
        if settings.get(f"{name}_token") is None
        else tokenizer.token_to_id(settings[f"{name}_token"])
        for name in ("bos", "eos", "pad")
    }
    count = tokenizer.get_vocab_size()
    sizes = {key: value for key, value in _SIZES.items() if key not in case.without}
    rows = int(made.config["vocab_size"]) if whole.padded else count
    assert (rows > count) == whole.padded, (whole.name, rows, count)
    options = {**sizes, **case.options, **whole.options, **ids, "vocab_size": rows}
    config = transformers.AutoConfig.for_model(case.model_type, **options)
    model = _AUTO.from_config(config)
    randomise(model, torch.Generator().manual_seed(7))
    model.eval().save_pretrained(directory)
    for name, data in made.files.items():
        (directory / name).write_bytes(data)
    before, each, answer = _CHATS.get(whole.tokenizer, _PLAIN)
    (directory / "chat_template.jinja").write_text(
        f"{before}{{% for m in messages %}}{each}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{answer}{{% endif %}}"
    )
    settings |= {"tokenizer_class": whole.tokenizer_class}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    generation |= {name: number for name, number in ids.items() if number is not None}
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
