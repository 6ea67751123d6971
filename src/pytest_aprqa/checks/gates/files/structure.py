"""What the ground truth's config.json, index and headers say of each other, read once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.architecture import (
    ArchitectureUnjudged,
    Differences,
    compare_architecture,
)
from pytest_aprqa.checks.integrity_config import Numbers

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import ModelLab
    from pytest_aprqa.formats.checkpoint import TensorInfo

INDEX = "model.safetensors.index.json"
EMBEDDING = re.compile(
    r"^(?P<tower>.*?)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$"
)
LAYER = re.compile(r"(^|\.)(layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Structure:
    """A model directory's config, index and headers."""

    directory: Path
    config: Mapping[str, Any]
    """Empty where config.json cannot be read."""
    numbers: Numbers
    tensors: Mapping[str, TensorInfo]
    """Of the shards that can be read."""
    problems: tuple[str, ...] = ()
    """What is wrong with the weights' files and their index, a line each."""
    unread: str = ""
    """Why config.json cannot be read."""
    quantized: bool = False
    """Whether the weights are published quantized, so that shapes say nothing."""
    layers: tuple[int, ...] = field(default=())
    """The layer numbers in the tensors' names, in order."""

    def said(self, meaning: str) -> int | None:
        """A size that config.json gives."""
        return self.numbers.values.get(meaning)

    def embedding(self) -> TensorInfo | None:
        """The one token embedding; None where there is none or more."""
        found = [
            info
            for name, info in self.tensors.items()
            if EMBEDDING.match(name) and len(info.shape) == 2 and "vision" not in name
        ]
        return found[0] if len(found) == 1 else None

    def rows(self, *roles: str) -> Counter[int]:
        """How many matrices of these roles (`q_proj`) have how many rows."""
        return Counter(
            info.shape[0]
            for name, info in self.tensors.items()
            if len(info.shape) == 2 and LAYER.search(name) and name.split(".")[-2] in roles
        )

    @property
    def head_dim(self) -> int | None:
        """The size of an attention head: as config.json says, else hidden size over heads."""
        explicit, hidden = self.said("head_dim"), self.said("hidden_size")
        heads = self.said("num_attention_heads")
        if explicit or not hidden or not heads:
            return explicit
        return None if hidden % heads else hidden // heads


def structure(lab: ModelLab) -> Structure:
    """The directory's structure; what cannot be read is told in it and hides nothing else."""
    from pytest_aprqa.formats.checkpoint import CheckpointError
    from pytest_aprqa.formats.huggingface import survey_huggingface

    unread, config = "", dict[str, Any]()
    try:
        config = dict(lab.config)
    except CheckpointError as error:
        unread = str(error)
    checkpoint, problems = survey_huggingface(lab.directory)
    layers = sorted({int(m[3]) for name in checkpoint.tensors if (m := LAYER.search(name))})
    return Structure(
        directory=lab.directory,
        config=config,
        numbers=Numbers.from_config(config),
        tensors=checkpoint.tensors,
        problems=problems,
        unread=unread,
        quantized=config.get("quantization_config") is not None,
        layers=tuple(layers),
    )


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The model that config.json describes, against the tensors that are there."""

    differences: Differences | None
    """None where it cannot be told."""
    refused: str = ""
    """Why not."""
    invalid: bool = False
    """Whether config.json is at fault: it makes no configuration of its model_type."""


def skeleton(lab: ModelLab) -> Skeleton:
    """Names and shapes as transformers would have them, by the class that config.json names."""
    found = lab.once(structure)
    if found.unread or found.quantized:
        return Skeleton(None, found.unread or "the weights are quantized (quantization_config)")
    try:
        return Skeleton(compare_architecture(found.config, found.tensors))
    except ArchitectureUnjudged as error:
        return Skeleton(None, str(error), invalid=not error.unknown)


def shapes_of(found: Differences, *roles: str) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Name, stored and expected shape of every misshapen tensor of these roles."""
    for name, have, want in found.mismatched:
        if role_of(name) in roles:
            yield name, have, want


def role_of(name: str) -> str:
    """What a tensor is: `embedding`, `lm_head`, `bias`, `vector`, or the name of its module."""
    if name.endswith(".bias"):
        return "bias"
    if EMBEDDING.match(name):
        return "embedding"
    parts = name.split(".")
    module = parts[-2] if len(parts) > 1 and parts[-1] == "weight" else parts[-1]
    if module in ("lm_head", "embed_out"):
        return "lm_head"
    return "vector" if "norm" in module or module.startswith("ln_") else module
