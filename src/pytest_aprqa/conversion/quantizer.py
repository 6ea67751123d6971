"""Quantize a GGUF file with llama.cpp's own quantizer, in a child process."""

from __future__ import annotations

import os
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.child_process import ChildDied, ChildProcess
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "pytest_aprqa.conversion.quantizer_child"
FILE_TYPES = MappingProxyType(
    {
        Quantization.F32: 0,
        Quantization.F16: 1,
        Quantization.Q4_0: 2,
        Quantization.Q8_0: 7,
        Quantization.Q5_0: 8,
        Quantization.Q2_K: 10,
        Quantization.Q3_K_M: 12,
        Quantization.Q4_K_M: 15,
        Quantization.Q5_K_M: 17,
        Quantization.Q6_K: 18,
        Quantization.BF16: 32,
    }
)
"""`general.file_type` of each quantization: llama_ftype in llama.cpp's llama.h."""


def quantize_gguf(
    source: Path,
    destination: Path,
    quantization: Quantization,
    *,
    threads: int | None = None,
    requantize: bool = False,
) -> None:
    """Write `source` in another quantization to `destination`, as llama.cpp's own tool does.

    `destination` is a draft of the caller's: it is overwritten, and removed when anything goes
    wrong, an interrupt included. `threads` None is one for each core that this process may use.
    With `requantize` a source that is quantized itself is taken, at a loss on top of its own.

    Raises:
        ConversionError: llama.cpp refuses the file or dies of it; the message has its reason.
    """
    if not source.is_file():
        raise ConversionError(f"{source}: the file does not exist; expected a GGUF file")
    if destination.exists() and destination.samefile(source):
        raise ConversionError(f"{destination}: it is the source itself; expected another file")
    child = ChildProcess(MODULE)
    child.send(
        {
            "source": str(source),
            "destination": str(destination),
            "file_type": FILE_TYPES[quantization],
            "threads": threads or len(os.sched_getaffinity(0)),
            "requantize": requantize,
        }
    )
    done = False
    try:
        reason = child.receive(None).message.get("error")
        if reason is not None:
            raise ConversionError(_refusal(source, quantization, reason))
        done = True
    except ChildDied as death:
        said = f": {death.last_words}" if death.said else ""
        raise ConversionError(
            one_line(f"{source}: llama.cpp's quantizer {death.how} while it made it {quantization}")
            + one_line(said)
        ) from death
    finally:
        child.close()
        if not done:
            destination.unlink(missing_ok=True)


def _refusal(source: Path, quantization: Quantization, reason: str) -> str:
    if "requantizing from type" in reason:
        return (
            f"{source}: it is quantized already, and {quantization} of it would lose twice; "
            f"quantize from the unquantized file ({one_line(reason)})"
        )
    return f"{source}: llama.cpp does not quantize it to {quantization}: {one_line(reason)}"
