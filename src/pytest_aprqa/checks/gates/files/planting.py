"""Ways to damage a model directory that the proofs of several families use."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import Lab
    from pytest_aprqa.checks.gates.proof import ProofBench

Tensors = dict[str, Any]


def rewritten(bench: ProofBench, change: Callable[[Tensors], object]) -> Path:
    """A copy of the embedded model whose tensors `change` edits, adds to, or takes from."""
    from safetensors.torch import load_file, save_file

    directory = bench.copy()
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    path.unlink()
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(kept, path, metadata={"format": "pt"})
    return directory


def with_tensors(change: Callable[[Tensors], object]) -> Callable[[ProofBench], Lab]:
    """A lab over a copy whose tensors `change` edits."""
    return lambda bench: bench.model_lab(rewritten(bench, change))


def with_config(**changes: Any) -> Callable[[ProofBench], Lab]:
    """A lab over a copy whose config.json has these values."""

    def make(bench: ProofBench) -> Lab:
        directory = bench.copy()
        bench.edit_json(directory / "config.json", lambda config: config.update(changes))
        return bench.model_lab(directory)

    return make


def sharded(bench: ProofBench, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the embedded model in two shards, with an index that `change` edits."""
    from safetensors.torch import load_file, save_file

    directory = bench.copy()
    path = directory / "model.safetensors"
    tensors = load_file(path)
    path.unlink()
    names = sorted(tensors)
    index: dict[str, Any] = {"metadata": {"total_size": 0}, "weight_map": {}}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, directory / shard, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(part, shard)
        index["metadata"]["total_size"] += sum(tensors[name].nbytes for name in part)
    change(index)
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return directory


def untied(tensors: Tensors) -> None:
    """Store a head of its own, equal to the embedding."""
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def fused(bench: ProofBench) -> Path:
    """A tiny model of a family with fused projections, with fresh weights."""
    import torch
    from transformers import AutoModelForCausalLM, Phi3Config

    untyped: Any = Phi3Config
    config = untyped(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    made = auto.from_config(config)
    directory = bench.place("fused")
    made.save_pretrained(directory)
    return directory
