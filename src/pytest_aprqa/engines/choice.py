"""Which engine runs a target, and what this version or this machine cannot run."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.impossible import why_impossible
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.devices import may_have_mps, require_device
from pytest_aprqa.engines.memory import weights_bytes
from pytest_aprqa.engines.providers import why_no_provider

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.engines.hosted_engine import HostedEngine
    from pytest_aprqa.engines.providers import EngineProvider
    from pytest_aprqa.engines.transformers_engine import TransformersEngine

SMALL_BYTES = 100_000_000
"""Weights up to this size run on one thread: a token's work is then too short to be shared. A
4 MB model made 330 tokens/s on one thread and 10 on two, on two cores that were not idle."""

_CUDA_DRIVERS = ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll")
"""The driver's own library: without one of these no build of torch finds a device."""


def why_unavailable(target: Target, providers: Sequence[EngineProvider] = ()) -> str | None:
    """Why the target cannot be asked here; None when it can, as far as known.

    With `providers` one of them must be able to run it; else the built-in engine for its format.
    Answers without importing torch, so that items of an absent device cost nothing.
    """
    if target.format is None:
        return None  # an endpoint tells by itself what it lacks
    if problem := why_impossible(target.format, target.quantization):
        return problem
    if providers:
        return why_no_provider(providers, target)
    if target.backend is Backend.GPU and not (_has_cuda_driver() or may_have_mps()):
        return "no CUDA device"
    return None


def prefetch(target: Target, *, threads: int) -> None:
    """Start importing what the target's engine needs, in its child, while files are looked into."""
    if target.format is not Format.GGUF or target.backend is Backend.GPU:
        from pytest_aprqa.engines import torch_host

        torch_host.prefetch(threads)


def load_engine(
    target: Target, path: Path, *, threads: int | None = None, exact: bool = False
) -> Engine:
    """Load the target's weights in the engine for its format, on at most `threads` CPU threads.

    `path` is the directory of a safetensors model, or the `.apr` or `.gguf` file. transformers runs
    safetensors, and APR over what `read_portable` makes of the file; llama.cpp runs GGUF on the
    CPU, transformers its dequantized weights on a GPU; each in a child process. `exact` is for
    comparing logits: llama.cpp then computes attention in float32.

    Raises:
        LoadFailed: the model does not load.
        EngineUnavailable: this machine lacks the device or the memory, or the weights came to lie
            on another device than the target's.
    """
    if target.format is None or target.backend is None:
        raise AprqaError(f"{target.name}: an endpoint has no files to load; connect to it instead")
    allowed = threads_for(path, threads)
    engine = _load(path, target.format, target.backend, threads=allowed, exact=exact)
    require_device(engine, target.backend)
    return engine


def _load(
    path: Path, format_: Format, backend: Backend, *, threads: int | None, exact: bool
) -> Engine:
    if format_ is Format.SAFETENSORS:
        from pytest_aprqa.engines.hosted_engine import load

        return load(path, backend=backend, threads=threads)
    if format_ is Format.GGUF and backend is Backend.CPU:
        from pytest_aprqa.engines.llamacpp_engine import load_gguf

        return load_gguf(path, threads=threads, exact=exact)
    return load_file(path, format_, backend=backend, threads=threads)


def load_exact(path: Path, format_: Format, *, threads: int | None = None) -> Engine:
    """Load a model on the CPU in the engine for its format, computing in float32 for comparisons.

    Raises:
        LoadFailed: the model does not load.
        EngineUnavailable: this machine cannot run it.
    """
    allowed = threads_for(path, threads)
    if format_ is Format.SAFETENSORS:
        from pytest_aprqa.engines.hosted_engine import load

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
) -> HostedEngine:
    """Load an APR or GGUF file with transformers, everything from the file itself.

    For GGUF on the CPU this is the second opinion that tells a bad file from a bad engine.

    Raises:
        LoadFailed: the file cannot be read, or what it holds does not make a model.
        EngineUnavailable: this machine lacks the device.
    """
    from pytest_aprqa.engines.hosted_engine import load_file as load_in_host

    return load_in_host(path, format_, backend=backend, threads=threads, dtype=dtype)


def load_here(
    path: Path, format_: Format, *, backend: Backend, threads: int | None = None
) -> TransformersEngine:
    """Load a model with transformers in this very process, which is there for nothing else.

    Raises:
        LoadFailed: the files do not make a model.
        EngineUnavailable: this machine lacks the device or the memory, or the weights came to lie
            on another device.
    """
    allowed = threads_for(path, threads)
    if format_ is Format.SAFETENSORS:
        from pytest_aprqa.engines.transformers_engine import load

        engine = load(path, backend=backend, threads=allowed)
    else:
        from pytest_aprqa.engines.portable_load import load_portable_file

        engine = load_portable_file(path, format_, backend=backend, threads=allowed)
    require_device(engine, backend)
    return engine


def threads_for(path: Path, threads: int | None) -> int | None:
    """How many threads of those allowed a model is given: one for a small one."""
    return 1 if _is_small(path) else threads


def _is_small(path: Path) -> bool:
    return weights_bytes(path) < SMALL_BYTES


@cache
def _has_cuda_driver() -> bool:
    for name in _CUDA_DRIVERS:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
