"""Which engine runs a target, and what this version or this machine cannot run."""

from __future__ import annotations

import ctypes
import re
from functools import cache
from glob import escape
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.impossible import why_impossible
from pytest_aprqa.domain.model import Backend, Format, Modality
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.engine import LoadFailed

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.domain.plan import Target
    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.engines.transformers_engine import TransformersEngine

SMALL_BYTES = 100_000_000
"""Weights up to this size run on one thread: a token's work is then too short to be shared. A
4 MB model made 330 tokens/s on one thread and 10 on two, on two cores that were not idle."""

_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
"""One file of a GGUF that llama.cpp's tool has split."""
_CUDA_DRIVERS = ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll")
"""The driver's own library: without one of these no build of torch finds a device."""


def why_unavailable(target: Target, modality: Modality | None) -> str | None:
    """Why the target cannot be asked in this modality here; None when it can, as far as known.

    Answers without importing torch, so that items of an absent device cost nothing.
    """
    if problem := why_impossible(target.format, target.quantization):
        return problem
    if modality is Modality.SERVE:
        return "this version does not serve models over HTTP yet"
    if target.backend is Backend.GPU and not _has_cuda_driver():
        return "no CUDA device"
    return None


def load_engine(
    target: Target, path: Path, *, threads: int | None = None, exact: bool = False
) -> Engine:
    """Load the target's weights in the engine for its format, on at most `threads` CPU threads.

    `path` is the directory of a safetensors model, or the `.apr` or `.gguf` file. transformers runs
    safetensors, and APR over what `read_portable` makes of the file; llama.cpp runs GGUF on the
    CPU, transformers its dequantized weights on a GPU. `exact` is for comparing logits: llama.cpp
    then computes attention in float32.

    Raises:
        LoadFailed: the model does not load.
        EngineUnavailable: this machine lacks the device.
    """
    allowed = 1 if _is_small(path) else threads
    if target.format is Format.SAFETENSORS:
        from pytest_aprqa.engines.transformers_engine import load

        return load(path, backend=target.backend, threads=allowed)
    if target.format is Format.GGUF and target.backend is Backend.CPU:
        from pytest_aprqa.engines.llamacpp_engine import load_gguf

        return load_gguf(path, threads=allowed, exact=exact)
    return load_file(path, target.format, backend=target.backend, threads=allowed)


def load_exact(path: Path, format_: Format, *, threads: int | None = None) -> Engine:
    """Load a model on the CPU in the engine for its format, computing in float32 for comparisons.

    Raises:
        LoadFailed: the model does not load.
        EngineUnavailable: this machine cannot run it.
    """
    allowed = 1 if _is_small(path) else threads
    if format_ is Format.SAFETENSORS:
        from pytest_aprqa.engines.transformers_engine import load

        return load(path, backend=Backend.CPU, dtype="float32", threads=allowed)
    if format_ is Format.GGUF:
        from pytest_aprqa.engines.llamacpp_engine import load_gguf

        return load_gguf(path, threads=allowed, exact=True)
    return load_file(path, format_, backend=Backend.CPU, threads=allowed, dtype="float32")


def load_file(
    path: Path,
    format_: Format,
    *,
    backend: Backend,
    threads: int | None = None,
    dtype: str | None = None,
) -> TransformersEngine:
    """Load an APR or GGUF file with transformers, everything from the file itself.

    For GGUF on the CPU this is the second opinion that tells a bad file from a bad engine.

    Raises:
        LoadFailed: the file cannot be read, or what it holds does not make a model.
        EngineUnavailable: this machine lacks the device.
    """
    from pytest_aprqa.conversion.portable import ConversionError
    from pytest_aprqa.conversion.reading import read_portable
    from pytest_aprqa.engines.portable_load import load_portable
    from pytest_aprqa.engines.transformers_load import find_device
    from pytest_aprqa.formats.checkpoint import CheckpointError

    find_device(backend)  # before a file of gigabytes is read for a device that is not there
    try:
        model = read_portable(path)
        return load_portable(
            model, backend=backend, threads=threads, dtype=dtype, label=format_, file=path.name
        )
    except (CheckpointError, ConversionError) as error:
        raise LoadFailed(one_line(error)) from error


def _is_small(path: Path) -> bool:
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    if parts := _PART.fullmatch(path.name):  # the first part may hold no tensors at all
        files = path.parent.glob(f"{escape(parts[1])}-*-of-{parts[2]}.gguf")
    return sum(file.stat().st_size for file in files if file.is_file()) < SMALL_BYTES


@cache
def _has_cuda_driver() -> bool:
    for name in _CUDA_DRIVERS:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
