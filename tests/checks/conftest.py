"""Tiny models of several architectures with random weights, and a byte-level BPE for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.engines.transformers_quiet import quiet

VOCABULARY = 512
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "eos_token_id": 511,
    "bos_token_id": None,
    "pad_token_id": None,
}
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4}
ENDS = {"eos_token_id": 511, "bos_token_id": None}
Writer = Callable[..., Path]

# name: model_type, configuration, dtype, largest shard
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "qwen2-tied": ("qwen2", BASE | {"tie_word_embeddings": True}, "bfloat16", "1GB"),
    "qwen2-untied": ("qwen2", BASE | {"tie_word_embeddings": False}, "float16", "1GB"),
    "qwen2-sharded": ("qwen2", BASE | {"tie_word_embeddings": False}, "bfloat16", "40KB"),
    "qwen3": ("qwen3", BASE | {"head_dim": 16, "tie_word_embeddings": True}, "bfloat16", "1GB"),
    "llama": ("llama", BASE, "float32", "1GB"),
    "mistral": ("mistral", BASE | {"head_dim": 16}, "bfloat16", "1GB"),
    "gemma2": ("gemma2", BASE | {"head_dim": 16}, "bfloat16", "1GB"),
    "gemma3": ("gemma3_text", BASE | {"head_dim": 16}, "bfloat16", "1GB"),
    "phi3": ("phi3", BASE, "bfloat16", "1GB"),
    "gpt2": ("gpt2", GPT | ENDS, "float32", "1GB"),
    "gpt-neox": ("gpt_neox", {k: v for k, v in BASE.items() if "key" not in k}, "float16", "1GB"),
    "mixtral": ("mixtral", BASE | {"num_local_experts": 4}, "bfloat16", "1GB"),
    "starcoder2": ("starcoder2", BASE, "bfloat16", "30KB"),
}


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of 509 tokens and 3 special ones, with its settings."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    ends = ("ng", "lt", "mp", "sh", "ck", "rd")
    words = [f"{a}{b}{c}{d} " for a in "strombeg" for b in "aeiou" for c in ends for d in "aeiou"]
    tokenizer.train_from_iterator(words * 3 + ["def add(a, b): return a + b"] * 5, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY - len(SPECIAL)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": {"content": "<|endoftext|>"},
        "additional_special_tokens": ["<|im_start|>"],
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token} for token in SPECIAL
        },
        "chat_template": "{% for m in messages %}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% continue %}{% endfor %}",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: Path) -> Writer:
    """The directory of a healthy model by its name in ARCHITECTURES; made once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            write_model(made[name], *ARCHITECTURES[name])
            shutil.copytree(tokenizer_directory, made[name], dirs_exist_ok=True)
        return made[name]

    return get


@pytest.fixture
def broken(models: Writer, tmp_path: Path) -> Writer:
    """A copy of a healthy model that a test may break."""

    def copy(name: str = "qwen2-untied") -> Path:
        return Path(shutil.copytree(models(name), tmp_path / name))

    return copy


def write_model(
    directory: Path, model_type: str, config: dict[str, Any], dtype: str, shard: str
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untyped: Any = AutoModelForCausalLM
        model = untyped.from_config(AutoConfig.for_model(model_type, **config))
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.01)  # no norm of exact zeros
        model.to(getattr(torch, dtype)).save_pretrained(directory, max_shard_size=shard)


@pytest.fixture
def resave() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Change the tensors of an unsharded model in place."""
    from safetensors.torch import load, save_file

    def change(directory: Path, edit: Callable[[dict[str, Any]], None]) -> None:
        path = directory / "model.safetensors"
        tensors = load(path.read_bytes())
        edit(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return change


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Change members of a JSON object in a file; None deletes one."""

    def change(path: Path, **changes: Any) -> None:
        content = json.loads(path.read_text()) | changes
        kept = {key: value for key, value in content.items() if value is not None}
        path.write_text(json.dumps(kept))

    return change
