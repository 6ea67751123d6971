"""Small models of every family, made by transformers with random weights, norms and biases too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from pytest_aprqa.conversion.families import gguf_fields, gguf_tensors
from pytest_aprqa.formats.checkpoint import TensorInfo
from pytest_aprqa.formats.gguf_field import GgufField, array, string, uint32
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor, tensors_of

VOCAB, HIDDEN, HEADS, KV_HEADS, LAYERS, POSITIONS = 96, 64, 4, 2, 2, 128
TOKENS = [5, 90, 17, 3, 3, 64, 21, 8, 77, 50, 11, 95, 2, 33, 48, 48, 70, 6, 29, 81, 40, 13, 7, 62]
_SIZES: dict[str, Any] = {
    **{"vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": 96},
    **{"num_hidden_layers": LAYERS, "num_attention_heads": HEADS},
    **{"num_key_value_heads": KV_HEADS, "max_position_embeddings": POSITIONS},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}


_AUTO: Any = transformers.AutoModelForCausalLM


@dataclass(frozen=True)
class Case:
    """A model to make; `floor`: the NMSE that llama.cpp's logits must stay below."""

    name: str
    model_type: str
    options: dict[str, Any] = field(default_factory=dict)
    floor: float = 1e-10
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class SmallModel:
    case: Case
    directory: Path
    config: dict[str, Any]
    tensors: tuple[Tensor, ...]
    logits: np.ndarray[Any, Any]


def make(case: Case, directory: Path) -> SmallModel:
    sizes = {key: value for key, value in _SIZES.items() if key not in case.without}
    config = transformers.AutoConfig.for_model(case.model_type, **{**sizes, **case.options})
    model = _AUTO.from_config(config, attn_implementation="eager")
    randomise(model, torch.Generator().manual_seed(7))
    model.eval().save_pretrained(directory)
    saved = json.loads((directory / "config.json").read_text())
    tensors = tensors_of(open_huggingface(directory))
    return SmallModel(case, directory, saved, tensors, logits_of(model))


def randomise(model: Any, generator: torch.Generator) -> None:
    """Weights that keep activations near one; norms and biases that would be missed."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                around = 0.0 if name.endswith("bias") or "Gemma" in type(model).__name__ else 1.0
                parameter.copy_(around + 0.3 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5)


def logits_of(model: Any) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model(torch.tensor([TOKENS])).logits[0].float().numpy()
    return found


def logits_of_files(
    directory: Path, config: dict[str, Any], tensors: list[Tensor]
) -> np.ndarray[Any, Any]:
    """What transformers computes from a config and tensors, each of them used."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    write_safetensors(directory, tensors, metadata={"format": "pt"})
    model, told = _AUTO.from_pretrained(
        directory,
        **{"dtype": torch.float32, "attn_implementation": "eager", "output_loading_info": True},
    )
    assert not any(told.values()), told
    return logits_of(model.eval())


def dummy_tokenizer(vocab: int) -> dict[str, GgufField]:
    """Enough of a vocabulary for llama.cpp to load a model that is only given token ids."""
    tokens = [f"t{number}" for number in range(vocab - 2)]
    return {
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string("gpt-2"),
        "tokenizer.ggml.tokens": array("string", [*tokens, "a", "b"]),
        "tokenizer.ggml.token_type": array("int32", [1] * vocab),
        "tokenizer.ggml.merges": array("string", ["a b"]),
        "tokenizer.ggml.bos_token_id": uint32(1),
        "tokenizer.ggml.eos_token_id": uint32(2),
    }


def write(path: Path, fields: dict[str, GgufField], tensors: list[Tensor]) -> None:
    write_gguf(path, fields={**fields, **dummy_tokenizer(VOCAB)}, tensors=tensors)


def write_model(path: Path, model: SmallModel) -> None:
    write(path, gguf_fields(model.config), gguf_tensors(model.config, model.tensors))


def infos(tensors: list[Tensor]) -> dict[str, TensorInfo]:
    return {
        t.name: TensorInfo(t.name, t.encoding, t.shape, t.nbytes, Path("none")) for t in tensors
    }


def values(tensors: list[Tensor]) -> Callable[[str], np.ndarray[Any, Any]]:
    found = {tensor.name: tensor for tensor in tensors}
    return lambda name: found[name].values()


def contents(tensors: list[Tensor] | tuple[Tensor, ...]) -> dict[str, tuple[Any, ...]]:
    """All there is to tensors, so that two lists can be compared bit for bit."""
    return {t.name: (t.encoding, t.shape, bytes(t.read())) for t in tensors}


def nmse(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Mean squared error over the variance of what is expected."""
    error = np.mean((found.astype(np.float64) - expected) ** 2)
    return float(error / np.var(expected.astype(np.float64)))
