"""Blocks and norms of a converted file that were damaged, which the gates over its values catch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting_bytes import damaged, file_lab, healthy
from pytest_aprqa.checks.gates.proof import EMBEDDED, Proof, ProofBench
from pytest_aprqa.domain.model import Format, Quantization

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.files.planting_bytes import Maker
    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = healthy(Format.GGUF, Quantization.Q8_0)
_UP = "blk.1.ffn_up.weight"
_BLOCK = 34
"""Bytes of a block of Q8_0: a float16 scale, then 32 codes."""


def _stored(name: str, change: Callable[[bytearray], object]) -> Maker:
    """A tensor's stored bytes, edited in place."""

    def edit(data: bytearray) -> None:
        from pytest_aprqa.formats.gguf_header import read_header

        entry = next(e for e in read_header(EMBEDDED, bytes(data)).entries if e.name == name)
        part = data[entry.offset : entry.offset + entry.nbytes]
        change(part)
        data[entry.offset : entry.offset + entry.nbytes] = part

    return damaged(Format.GGUF, edit, Quantization.Q8_0)


def _scaled(factor: float) -> Maker:
    """Another scale for one block."""

    def change(part: bytearray) -> None:
        import numpy as np

        scale = np.frombuffer(bytes(part[_BLOCK : _BLOCK + 2]), "<f2").astype(np.float32) * factor
        part[_BLOCK : _BLOCK + 2] = scale.astype("<f2").tobytes()

    return _stored(_UP, change)


def _zeros(part: bytearray) -> None:
    part[:] = bytes(len(part))


def _no_heads(bench: ProofBench) -> Lab:
    from pytest_aprqa.formats.gguf_file import GgufFile
    from pytest_aprqa.formats.gguf_writer import write_gguf
    from pytest_aprqa.formats.tensor import tensors_of

    source = GgufFile.open(bench.converted(Format.GGUF, Quantization.Q8_0))
    keys: dict[str, Any] = dict(source.fields)
    keys["qwen2.attention.head_count"] = replace(keys["qwen2.attention.head_count"], value=0)
    path = bench.place("model.gguf")
    write_gguf(path, fields=keys, tensors=tensors_of(source))
    return file_lab(bench, Format.GGUF, path, Quantization.Q8_0)


PROOFS = (
    Proof("F-VALIDATE-NAN-001", "a scale that is no number", _scaled(float("nan")), _HEALTHY),
    Proof("F-VALIDATE-ZERO-001", "a norm of zeros", _stored("blk.1.attn_norm.weight", _zeros),
          _HEALTHY),
    Proof("F-VALIDATE-BLOCK-001", "a scale of zero", _scaled(0.0), _HEALTHY),
    Proof("F-VALIDATE-RANGE-001", "a scale a hundred times too large", _scaled(100.0), _HEALTHY),
    Proof("F-INSPECT-META-001", "a file that states no attention heads", _no_heads, _HEALTHY),
)  # fmt: skip
