"""Ways to damage a GGUF or APR file byte by byte, and labs over them that load nothing."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from pytest_aprqa.checks.gates.lab import Lab, TargetLab
from pytest_aprqa.checks.gates.proof import PROMPTS, ProofBench, Tampered, shared
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.model import Backend, Format, Quantization

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.engines.engine import Engine

_UNASKED = cast("Engine", Tampered(cast("Any", None)))
"""An engine for labs whose gates look at the file alone."""
Maker = Callable[[ProofBench], Lab]


def file_lab(
    bench: ProofBench, format_: Format, file: Path, quantization: Quantization | None = None
) -> TargetLab:
    """A lab over a file of the embedded model, which no engine has loaded."""
    return TargetLab(
        Target("embedded/aprqa-tiny", format_, quantization, Backend.CPU),
        file=file,
        engine=_UNASKED,
        model=bench.model_lab(),
        prompts=PROMPTS,
    )


def healthy(format_: Format, quantization: Quantization | None = None) -> Maker:
    """The embedded model in this format and quantization, made once."""
    return shared(
        f"file {format_} {quantization}",
        lambda b: file_lab(b, format_, b.converted(format_, quantization), quantization),
    )


def damaged(
    format_: Format,
    change: Callable[[bytearray], object],
    quantization: Quantization | None = None,
) -> Maker:
    """A copy of the embedded model's file whose bytes `change` edits in place."""

    def make(bench: ProofBench) -> Lab:
        data = bytearray(bench.converted(format_, quantization).read_bytes())
        change(data)
        path = bench.place(f"model.{format_}")
        path.write_bytes(data)
        return file_lab(bench, format_, path, quantization)

    return make


def tensor_entry(data: bytes | bytearray, name: str) -> int:
    """Where the fields of a GGUF tensor's entry begin, right after its name."""
    encoded = struct.pack("<Q", len(name)) + name.encode()
    found = [match.end() for match in re.finditer(re.escape(encoded), data)]
    return found[0]


def key_value(data: bytes | bytearray, key: str) -> int:
    """Where the type and value of a GGUF key begin, right after its name."""
    return tensor_entry(data, key)
