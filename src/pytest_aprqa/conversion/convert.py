"""Convert a model from any format to any other, with or without quantizing it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.impossible import why_impossible
from pytest_aprqa.conversion.portable import ConversionError, PortableModel
from pytest_aprqa.conversion.quantizer import quantize_gguf
from pytest_aprqa.conversion.reading import is_quantized, read_portable
from pytest_aprqa.conversion.stored_config import gguf_remarks
from pytest_aprqa.conversion.writing import (
    APR_BY_QUANTIZER,
    PLAIN,
    mixed_for_apr,
    write_apr_file,
    write_directory,
    write_gguf_file,
)
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.formats.apr_file import verify_footer
from pytest_aprqa.formats.apr_rules import PORTABLE
from pytest_aprqa.formats.atomic import atomic_directory, atomic_file, scratch_directory
from pytest_aprqa.formats.encodings import encoding_of
from pytest_aprqa.formats.opening import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.formats.tensor import Progress


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
    remarks: tuple[str, ...] = ()
    """What the format's own engine computes otherwise, a line each."""


def format_by_name(destination: Path) -> Format:
    """The format that a destination's name asks for: `.gguf`, `.apr`, otherwise a directory."""
    return {".gguf": Format.GGUF, ".apr": Format.APR}.get(destination.suffix, Format.SAFETENSORS)


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
    require_free(source, destination, replace=replace)
    if quantization is not None and quantization not in PLAIN:
        _require_unquantized(source, quantization)
    if source.suffix == ".apr":
        verify_footer(source)
    if format_ is Format.SAFETENSORS:
        encoding = None if quantization is None else PLAIN[quantization]
        model = read_portable(source)
        with atomic_directory(destination, replace=replace) as draft:
            write_directory(model, draft, encoding, progress)
    elif format_ is Format.GGUF:
        _write_gguf(source, destination, quantization, progress)
    else:
        _write_apr(source, destination, quantization, progress)
    seconds = time.perf_counter() - began
    return Conversion(
        source,
        destination,
        format_,
        quantization,
        False,
        seconds,
        size_of(destination),
        tuple(gguf_remarks(destination)),
    )


def require_free(source: Path, destination: Path, *, replace: bool) -> None:
    """Refuse a destination that is taken, or whose replacement would take away more than a model.

    Raises:
        ConversionError: it is there and `replace` is not set, it is a directory of something else
            than a model, or the source lies in it.
    """
    if not destination.exists():
        return
    if not replace:
        raise ConversionError(f"{destination}: exists already; expected a new name, or replace it")
    if not destination.is_dir():
        return
    if any(destination.iterdir()) and not (destination / "config.json").is_file():
        raise ConversionError(
            f"{destination}: holds files but no config.json; expected a model's directory to "
            "replace, or a new name"
        )
    if destination.resolve() in source.resolve().parents:
        raise ConversionError(
            f"{destination}: {source} lies in it and would go with it; expected another name"
        )


def _write_gguf(
    source: Path,
    destination: Path,
    quantization: Quantization | None,
    progress: Progress | None,
) -> None:
    if quantization is None or quantization in PLAIN:
        encoding = None if quantization is None else PLAIN[quantization]
        model = _for_blocks(source, Format.GGUF, quantization)
        write_gguf_file(model, destination, encoding, progress)
        return
    with atomic_file(destination) as draft, scratch_directory(destination) as space:
        _quantize(source, draft, space, quantization, progress)


def _write_apr(
    source: Path,
    destination: Path,
    quantization: Quantization | None,
    progress: Progress | None,
) -> None:
    if quantization not in APR_BY_QUANTIZER:
        model = _for_blocks(source, Format.APR, quantization)
        write_apr_file(model, destination, quantization, progress)
        return
    with scratch_directory(destination) as space:
        quantized = space / "quantized.gguf"
        _quantize(source, quantized, space, quantization, None)
        model = mixed_for_apr(read_portable(source), read_portable(quantized, decode_to=None))
        write_apr_file(model, destination, None, progress)


def _quantize(
    source: Path,
    draft: Path,
    space: Path,
    quantization: Quantization,
    progress: Progress | None,
) -> None:
    """Have llama.cpp write a quantized GGUF file; `space` is for the plain one that it reads."""
    plain = source
    if open_checkpoint(source).format is not Format.GGUF:
        plain = space / "plain.gguf"
        write_gguf_file(read_portable(source), plain, None, progress)
    try:
        quantize_gguf(plain, draft, quantization)
    except ConversionError as error:
        # Nobody knows the scratch file, which is gone when the message is read.
        raise ConversionError(str(error).replace(str(plain), str(source))) from error


def _for_blocks(source: Path, format_: Format, quantization: Quantization | None) -> PortableModel:
    """The model with those of its blocks that the target keeps; decoded if it keeps none."""
    checkpoint = open_checkpoint(source)
    by_row = all(encoding_of(info.dtype).by_row for info in checkpoint.tensors.values())
    if quantization is None and by_row and is_quantized(checkpoint):
        model = read_portable(source, decode_to=None)
        blocks = {t.encoding for t in model.tensors if not encoding_of(t.encoding).plain}
        if blocks and (format_ is Format.GGUF or not blocks.isdisjoint(PORTABLE)):
            return model
    return read_portable(source)


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
