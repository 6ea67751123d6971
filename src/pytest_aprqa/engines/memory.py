"""How much memory a model takes, how much is free, and how running out of it shows."""

from __future__ import annotations

import re
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.system_memory import available_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOM = 1.05
"""What loading takes beside the weights themselves: buffers, the tokenizer, a first cache."""
_GIBIBYTE = 1024**3
_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
"""One file of a GGUF that llama.cpp's tool has split."""
_TOLD = ("can't allocate memory", "std::bad_alloc", "CUDA out of memory", "MPS backend out of mem")
"""Texts of the RuntimeErrors by which torch tells it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: Python's, torch's, or C++'s through torch."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return isinstance(error, MemoryError) or named or any(text in str(error) for text in _TOLD)


def weights_files(path: Path) -> tuple[Path, ...]:
    """The files with a model's weights: a directory's safetensors, or a file with its parts."""
    files: Iterable[Path] = path.glob("*.safetensors") if path.is_dir() else [path]
    if parts := _PART.fullmatch(path.name):  # the first part may hold no tensors at all
        files = path.parent.glob(f"{escape(parts[1])}-*-of-{parts[2]}.gguf")
    return tuple(file for file in files if file.is_file())


def weights_bytes(path: Path) -> int:
    """The size of those files together."""
    return sum(file.stat().st_size for file in weights_files(path))


def require_memory(needed: int, device: str, *, where: str) -> None:
    """Refuse a load that the device's free memory cannot hold; `needed` is the weights' bytes.

    Raises:
        EngineUnavailable: it cannot; swapping would take the whole machine down.
    """
    free = free_bytes(device)
    wanted = int(needed * ROOM)
    if wanted > free:
        raise EngineUnavailable(
            f"{where}: needs about {_gib(wanted)}, {_gib(free)} are free on {device}; "
            "free memory, use fewer workers (-n), or qualify a smaller quantization"
        )


def free_bytes(device: str) -> int:
    """Free memory of a device: of the machine, within its container's limit, or of the GPU."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()  # MPS computes in the machine's own memory


def _gib(size: int) -> str:
    return f"{size / _GIBIBYTE:.2f} GiB"
