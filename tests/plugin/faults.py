"""Planted faults: each takes a directory with a healthy model and breaks one thing in it."""

from __future__ import annotations

import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Fault = Callable[[Path], None]

WEIGHTS = "model.safetensors"
NORM = "model.layers.1.input_layernorm.weight"
PROJECTION = "model.layers.1.mlp.down_proj.weight"
VALUES = "model.layers.1.self_attn.v_proj.weight"


def nan_in_one_weight(model: Path) -> None:
    """One NaN."""
    _edit(model, lambda tensors: tensors[PROJECTION].view(-1).__setitem__(7, float("nan")))


def file_cut_short(model: Path) -> None:
    """The last bytes are missing."""
    path = model / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])


def header_of_exabytes(model: Path) -> None:
    """The header claims 2**60 bytes."""
    path = model / WEIGHTS
    path.write_bytes(struct.pack("<Q", 1 << 60) + path.read_bytes()[8:])


def wrong_hidden_size(model: Path) -> None:
    """config.json says twice the hidden size."""
    _configure(model, hidden_size=512)


def wrong_number_of_layers(model: Path) -> None:
    """config.json says one layer more."""
    _configure(model, num_hidden_layers=4)


def all_zero_norm(model: Path) -> None:
    """A norm is all zeros."""
    _edit(model, lambda tensors: tensors[NORM].zero_())


def vocabulary_off_by_one(model: Path) -> None:
    """config.json says one token more."""
    _configure(model, vocab_size=1025)


def shuffled_tokenizer(model: Path) -> None:
    """The ids of ordinary tokens are permuted."""
    path = model / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = data["model"]["vocab"]
    special = {token["content"] for token in data["added_tokens"]}
    ordinary = [token for token in vocabulary if token not in special]
    ids = [vocabulary[token] for token in ordinary]
    random.Random(0).shuffle(ids)
    vocabulary.update(zip(ordinary, ids, strict=True))
    path.write_text(json.dumps(data), encoding="utf-8")


def pickle_beside(model: Path) -> None:
    """A pickle lies beside the weights."""
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [1.0]}))


def remote_code(model: Path) -> None:
    """config.json asks for code from the repository."""
    _configure(model, auto_map={"AutoModelForCausalLM": "modeling.Model"})


def length_in_words(model: Path) -> None:
    """tokenizer_config.json gives its length limit in words: every file is sound, loading fails."""
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": "many"}))


def every_token_ends(model: Path) -> None:
    """generation_config.json lists every token as an end token: the model answers nothing."""
    path = model / "generation_config.json"
    ends = list(range(1024))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))


def noise_for_a_layer(model: Path) -> None:
    """Every projection of every layer is noise: the model speaks garbage."""
    generator = torch.Generator().manual_seed(0)

    def scramble(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if name.endswith("proj.weight"):
                noise = torch.randn(tensor.shape, generator=generator)
                tensors[name] = (noise * tensor.float().std() * 3).to(tensor.dtype)

    _edit(model, scramble)


def wrong_sums(model: Path, strength: float) -> None:
    """Noise of `strength` standard deviations on one layer's values: fluent, but wrong."""
    generator = torch.Generator().manual_seed(0)

    def disturb(tensors: dict[str, torch.Tensor]) -> None:
        weight = tensors[VALUES].float()
        noise = torch.randn(weight.shape, generator=generator) * weight.std() * strength
        tensors[VALUES] = (weight + noise).to(tensors[VALUES].dtype)

    _edit(model, disturb)


G0_FAULTS: dict[Fault, str] = {
    nan_in_one_weight: "NaN",
    file_cut_short: "model.safetensors",
    header_of_exabytes: "1152921504606846976",
    wrong_hidden_size: "hidden_size",
    wrong_number_of_layers: "layers",
    all_zero_norm: NORM,
    vocabulary_off_by_one: "vocab_size",
    shuffled_tokenizer: "tokenizer.json",
    pickle_beside: "pytorch_model.bin",
    remote_code: "auto_map",
}
"""Faults that G0 finds, with a word that its message must hold."""


def _edit(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = model / WEIGHTS
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def _configure(model: Path, **values: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
