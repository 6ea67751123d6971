"""Which engine runs a target, and what this version or this machine cannot run."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING

from pytest_aprqa.domain.model import Backend, Format, Modality

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.domain.plan import Target
    from pytest_aprqa.engines.engine import Engine

SMALL_BYTES = 100_000_000
"""Weights up to this size run on one thread: a token's work is then too short to be shared. A
4 MB model made 330 tokens/s on one thread and 10 on two, on two cores that were not idle."""

_CUDA_DRIVERS = ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll")
"""The driver's own library: without one of these no build of torch finds a device."""


def why_unavailable(target: Target, modality: Modality | None) -> str | None:
    """Why the target cannot be asked in this modality here; None when it can, as far as known.

    Answers without importing torch, so that items of an absent device cost nothing.
    """
    if target.format is not Format.SAFETENSORS:
        return f"this version has no engine for {target.format} yet"
    if modality is Modality.SERVE:
        return "this version does not serve models over HTTP yet"
    if target.backend is Backend.GPU and not _has_cuda_driver():
        return "no CUDA device"
    return None


def load_engine(target: Target, directory: Path, *, threads: int | None = None) -> Engine:
    """Load the target's weights in the engine for its format, on at most `threads` CPU threads.

    Raises:
        LoadFailed: the model does not load.
        EngineUnavailable: this machine lacks the device.
    """
    from pytest_aprqa.engines.transformers_engine import load

    return load(directory, backend=target.backend, threads=1 if _is_small(directory) else threads)


def _is_small(directory: Path) -> bool:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors")) < SMALL_BYTES


@cache
def _has_cuda_driver() -> bool:
    for name in _CUDA_DRIVERS:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
