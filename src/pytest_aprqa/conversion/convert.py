"""Convert a model from any format to any other, with or without quantizing it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.portable import ConversionError, PortableModel
from pytest_aprqa.conversion.quantizer import quantize_gguf
from pytest_aprqa.conversion.reading import is_quantized, read_portable
from pytest_aprqa.conversion.writing import (
    APR_OWN,
    PLAIN,
    mixed_for_apr,
    write_apr_file,
    write_directory,
    write_gguf_file,
)
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.formats.atomic import atomic_directory, atomic_file, scratch_directory
from pytest_aprqa.formats.encodings import encoding_of
from pytest_aprqa.formats.opening import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.formats.tensor import Progress

APR_BY_QUANTIZER = (Quantization.Q4_K_M, Quantization.Q6_K)
"""What APR keeps in llama.cpp's own blocks."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that was made, or found made."""

    source: Path
    destination: Path
    format: Format
    quantization: Quantization | None
    cached: bool
    seconds: float
    nbytes: int


def format_by_name(destination: Path) -> Format:
    """The format that a destination's name asks for: `.gguf`, `.apr`, otherwise a directory."""
    return {".gguf": Format.GGUF, ".apr": Format.APR}.get(destination.suffix, Format.SAFETENSORS)


def why_impossible(format_: Format, quantization: Quantization | None) -> str | None:
    """Why a format cannot hold a quantization; None when it can."""
    if quantization is None or quantization in PLAIN or format_ is Format.GGUF:
        return None
    plain = ", ".join(PLAIN)
    if format_ is Format.SAFETENSORS:
        return f"safetensors hold no {quantization}; expected one of {plain}, or a .gguf file"
    if quantization in APR_OWN or quantization in APR_BY_QUANTIZER:
        return None
    able = ", ".join((*APR_BY_QUANTIZER, *APR_OWN))
    return f"APR has no {quantization} that all its readers understand; expected {plain}, {able}"


def convert(
    source: Path,
    destination: Path,
    *,
    quantization: Quantization | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write the model at `source` to `destination`, whose name gives the format.

    Without a quantization every tensor keeps its values bit for bit; quantized ones are decoded
    to F32 where the target has no such blocks. K-quants and the other GGML types are made by
    llama.cpp's own quantizer. One tensor is in memory at a time; `destination` appears when it is
    complete, or not at all.

    Raises:
        ConversionError: the target cannot hold that quantization, the source is quantized
            already, or the model's family, tokenizer or layout is not understood.
        CheckpointError: the source cannot be read, or the destination cannot be written.
    """
    began = time.perf_counter()
    format_ = format_by_name(destination)
    if problem := why_impossible(format_, quantization):
        raise ConversionError(f"{destination}: {problem}")
    if destination.exists() and not replace:
        raise ConversionError(f"{destination}: exists already; expected a new name, or replace it")
    if format_ is Format.SAFETENSORS:
        encoding = None if quantization is None else PLAIN[quantization]
        model = read_portable(source)
        with atomic_directory(destination, replace=replace) as draft:
            write_directory(model, draft, encoding, progress)
    else:
        with atomic_file(destination) as draft, scratch_directory(destination) as space:
            _write_file(source, draft, space, format_, quantization, progress)
    seconds = time.perf_counter() - began
    return Conversion(
        source, destination, format_, quantization, False, seconds, size_of(destination)
    )


def _write_file(
    source: Path,
    draft: Path,
    space: Path,
    format_: Format,
    quantization: Quantization | None,
    progress: Progress | None,
) -> None:
    """Write a GGUF or APR file under a draft's name; `space` is for what lies between."""
    if quantization is not None and quantization not in PLAIN:
        _require_unquantized(source, quantization)
    if format_ is Format.GGUF:
        _write_gguf(source, draft, space, quantization, progress)
    elif quantization in APR_BY_QUANTIZER:
        quantized = space / "quantized.gguf"
        _write_gguf(source, quantized, space, quantization, None)
        model = mixed_for_apr(read_portable(source), read_portable(quantized, decode_to=None))
        write_apr_file(model, draft, None, progress)
    else:
        write_apr_file(_for_blocks(source), draft, quantization, progress)


def _write_gguf(
    source: Path,
    draft: Path,
    space: Path,
    quantization: Quantization | None,
    progress: Progress | None,
) -> None:
    if quantization is None or quantization in PLAIN:
        encoding = None if quantization is None else PLAIN[quantization]
        write_gguf_file(_for_blocks(source), draft, encoding, progress)
        return
    if source.suffix != ".gguf":
        plain = space / "plain.gguf"
        write_gguf_file(read_portable(source), plain, None, progress)
        source = plain
    quantize_gguf(source, draft, quantization)


def _for_blocks(source: Path) -> PortableModel:
    """The model with its blocks, unless they are such as run across rows."""
    checkpoint = open_checkpoint(source)
    by_row = all(encoding_of(info.dtype).by_row for info in checkpoint.tensors.values())
    return read_portable(source, decode_to=None if by_row else "F32")


def _require_unquantized(source: Path, quantization: Quantization) -> None:
    if is_quantized(open_checkpoint(source)):
        raise ConversionError(
            f"{source}: is quantized already; quantizing it to {quantization} would lose twice; "
            "expected the original model"
        )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a directory."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
