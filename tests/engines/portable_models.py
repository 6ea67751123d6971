"""Portable models made of a directory, and of encodings that a converter would have written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from pytest_aprqa.conversion.portable import TOKENIZER_FILES, PortableModel
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.tensor import Tensor, tensors_of


def portable(directory: Path) -> PortableModel:
    files = {name: directory / name for name in TOKENIZER_FILES}
    return PortableModel(
        config=json.loads((directory / "config.json").read_text("utf-8")),
        files={name: path.read_bytes() for name, path in files.items() if path.is_file()},
        tensors=tensors_of(open_huggingface(directory)),
    )


def with_config(model: PortableModel, **changes: Any) -> PortableModel:
    """The model with other settings in its config.json; None takes a setting away."""
    settings = {**model.config, **changes}
    return replace(model, config={k: v for k, v in settings.items() if v is not None})


def re_encoded(model: PortableModel, *, matrices: str, vectors: str) -> PortableModel:
    """Matrices in one encoding, norms and biases in another."""

    def one(tensor: Tensor) -> Tensor:
        wanted = matrices if len(tensor.shape) > 1 else vectors
        if wanted != "Q8_0":
            return tensor.as_encoding(wanted)
        return replace(tensor, encoding=wanted, read=lambda: _q8_0(tensor))

    return replace(model, tensors=tuple(map(one, model.tensors)))


def _q8_0(tensor: Tensor) -> np.ndarray[Any, Any]:
    blocks = gguf.quants.quantize(tensor.values(), gguf.GGMLQuantizationType.Q8_0)
    return np.asarray(blocks).reshape(-1)
