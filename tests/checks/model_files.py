"""Small GGUF, APR and safetensors files for tests, healthy until a test breaks them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_aprqa.conversion import families
from pytest_aprqa.conversion.tokenizers import apr_tokenizer_fields, gguf_tokenizer_fields
from pytest_aprqa.formats.apr_writer import write_apr
from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.gguf_field import GgufField, array, string, uint32
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.hub import resolve_model
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.tensor import Tensor, tensors_of

Values = np.ndarray[Any, Any]
EMBEDDING = {"gguf": "token_embd.weight", "apr": "model.embed_tokens.weight"}
MATRIX = {
    "gguf": "blk.0.attn_output.weight",
    "apr": "model.layers.0.self_attn.o_proj.weight",
    "safetensors": "model.layers.0.self_attn.o_proj.weight",
}
NORM = {
    "gguf": "output_norm.weight",
    "apr": "model.norm.weight",
    "safetensors": "model.norm.weight",
}
BIAS = {
    "gguf": "blk.0.attn_q.bias",
    "apr": "model.layers.0.self_attn.q_proj.bias",
    "safetensors": "model.layers.0.self_attn.q_proj.bias",
}
# The last is spelled like a reserved token; GGUF also marks `unused` as such.
TOKENS = ("the", "cat", "sat", "on", "mat", "unused", ".", "<|end|>")
TYPES = (1, 1, 1, 1, 1, 5, 1, 3)


def tensor(name: str, values: Any, encoding: str = "F32") -> Tensor:
    """A tensor of these values."""
    own = np.array(values, np.float32)
    return Tensor(name, encoding, own.shape, lambda: encode(encoding, own))


def raw_tensor(name: str, encoding: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    """A tensor of these bytes."""
    return Tensor(name, encoding, shape, lambda: np.frombuffer(data, np.uint8))


def weights(kind: str) -> dict[str, Values]:
    """Healthy values of one model, under the format's names."""
    random = np.random.default_rng(7)
    values = {
        MATRIX[kind]: random.standard_normal((32, 32), np.float32),
        NORM[kind]: np.ones(32, np.float32),
        BIAS[kind]: np.zeros(32, np.float32),
    }
    if kind in EMBEDDING:
        values[EMBEDDING[kind]] = random.standard_normal((len(TOKENS), 32), np.float32)
    if kind == "apr":
        values["lm_head.weight"] = values[EMBEDDING[kind]]
    return values


Change = Callable[[dict[str, Values]], None]


def write_model(
    directory: Path,
    kind: str,
    change: Change | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    extra: tuple[Tensor, ...] = (),
) -> Path:
    """A file of that kind; `change` plants a defect in its values, `fields` in its metadata."""
    values = weights(kind)
    if change is not None:
        change(values)
    path = directory / f"model.{kind}"
    tensors = [*(tensor(name, array) for name, array in values.items()), *extra]
    if kind == "gguf":
        write_gguf(path, fields=gguf_fields() | dict(fields or {}), tensors=tensors)
    elif kind == "apr":
        write_apr(path, metadata=apr_metadata() | dict(fields or {}), tensors=tensors)
    else:
        write_safetensors_file(path, tensors)
    return path


def gguf_fields() -> dict[str, GgufField]:
    """A GGUF file's keys: a little more than nothing, and a vocabulary."""
    return {
        "general.architecture": string("unheard-of"),
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.tokens": array("string", TOKENS),
        "tokenizer.ggml.token_type": array("int32", TYPES),
        "tokenizer.ggml.eos_token_id": uint32(7),
    }


def apr_metadata() -> dict[str, Any]:
    """An APR file's metadata without an architecture, which nobody builds a model from."""
    return {
        "model_type": "Parts",
        "total_size": 0,
        "param_count": 0,
        "tokenizer.vocabulary": list(TOKENS),
        "tokenizer.token_type": list(TYPES),
        "tokenizer.vocab_size": len(TOKENS),
    }


def write_safetensors_file(path: Path, tensors: list[Tensor]) -> None:
    """One safetensors file."""
    header: dict[str, Any] = {}
    content = b""
    for one in tensors:
        data = one.read().tobytes()
        offsets = [len(content), len(content) + len(data)]
        header[one.name] = {
            "dtype": one.encoding,
            "shape": list(one.shape),
            "data_offsets": offsets,
        }
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


Parts = tuple[dict[str, Any], list[Tensor]]
"""Metadata and tensors of a file that is about to be written."""


def embedded_source() -> tuple[dict[str, Any], dict[str, bytes], tuple[Tensor, ...]]:
    """Config, tokenizer files and tensors of the embedded model."""
    directory = resolve_model("embedded/aprqa-tiny").directory
    names = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    config = json.loads((directory / "config.json").read_bytes())
    files = {name: (directory / name).read_bytes() for name in names}
    return config, files, tensors_of(open_checkpoint(directory))


def embedded_gguf() -> Parts:
    """The embedded model as GGUF has it."""
    config, files, tensors = embedded_source()
    fields = families.gguf_fields(config) | gguf_tokenizer_fields(config, files)
    return dict(fields), list(families.gguf_tensors(config, tensors))


def embedded_apr() -> Parts:
    """The embedded model as APR has it, its config inside."""
    config, files, tensors = embedded_source()
    start = {"model_type": "Qwen2", "total_size": 0, "param_count": 0, "hf_config": config}
    metadata = start | families.apr_fields(config) | apr_tokenizer_fields(config, files)
    return metadata, list(families.apr_tensors(config, tensors))
