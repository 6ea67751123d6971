"""Small APR models for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.tensor import Tensor

VOCABULARY = ["<unk>", "<s>", "</s>", "▁the", "▁cat", "😀", "a\nb", ""]


def tensor(name: str, values: Any, encoding: str = "F32") -> Tensor:
    array = np.asarray(values, np.float32)
    return Tensor(name, encoding, array.shape, lambda: encode(encoding, array))


def raw_tensor(name: str, encoding: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    return Tensor(name, encoding, shape, lambda: np.frombuffer(data, np.uint8))


def llama_metadata(**changed: Any) -> dict[str, Any]:
    """What a Llama of 8 words and 256 hidden values needs; None removes a key."""
    metadata: dict[str, Any] = {
        "model_type": "Llama",
        "name": "tiny",
        "license": None,
        "total_size": 0,
        "param_count": 0,
        "architecture": "llama",
        "hidden_size": 256,
        "num_layers": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "vocab_size": 8,
        "intermediate_size": 512,
        "max_position_embeddings": 128,
        "rope_theta": 10000.0,
        "rope_type": 2,
        "rms_norm_eps": 1e-5,
        "tokenizer.vocabulary": list(VOCABULARY),
        "tokenizer.vocab_size": 8,
        "tokenizer.scores": [0.0, 0.0, 0.0, -1.0, -2.0, -3.5, -4.0, -5.0],
        "tokenizer.bos_token_id": 1,
        "tokenizer.eos_token_id": 2,
        "hf_config": {"model_type": "llama", "num_hidden_layers": 1, "nested": [1, [2, {}]]},
    }
    metadata.update({key.replace("__", "."): value for key, value in changed.items()})
    return {key: value for key, value in metadata.items() if value is not None or key == "license"}


def llama_tensors() -> list[Tensor]:
    """Embedding, head, norm and one matrix in each encoding that APR files hold."""
    random = np.random.default_rng(5)
    embedding = random.standard_normal((8, 256))
    return [
        tensor("model.norm.weight", np.ones(256)),
        tensor("model.embed_tokens.weight", embedding, "BF16"),
        tensor("lm_head.weight", embedding, "F16"),
        tensor("model.layers.0.a.weight", random.standard_normal((5, 31)), "APR_Q4"),
        tensor("model.layers.0.b.weight", random.standard_normal((5, 31)), "APR_Q8"),
        raw_tensor("model.layers.0.c.weight", "Q4_K", (2, 256), random.bytes(288)),
        raw_tensor("model.layers.0.d.weight", "Q6_K", (2, 256), random.bytes(420)),
    ]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def v1_file(metadata: bytes = b"\x81\xa1a\x01", content: bytes = b"12", **changed: int) -> bytes:
    """An APR v1 file, its checksum right whatever its header claims."""
    fields = {"major": 1, "minor": 0, "type": 2, "meta": len(metadata), "payload": len(content)}
    fields |= {"unpacked": len(content), "compression": 0, "flags": 0, "quality": 0} | changed
    body = struct.pack("<4sBBHIIIBBB9s", b"APRN", *fields.values(), b"") + metadata + content
    return body + zlib.crc32(body).to_bytes(4, "little")
