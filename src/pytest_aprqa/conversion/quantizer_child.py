"""The process that llama.cpp's quantizer runs in: one file in, one file out, then it ends."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import deque
from pathlib import Path
from typing import Any

from pytest_aprqa.conversion.child_protocol import open_channel

_ERROR = 4  # ggml_log_level


def main() -> None:
    """Quantize what the parent's one frame says and answer with nothing, or with the reason."""
    channel = open_channel()
    if (frame := channel.receive()) is not None:
        channel.send(_quantize(**frame.message))


def _quantize(
    source: str, destination: str, file_type: int, threads: int, requantize: bool
) -> dict[str, Any]:
    try:
        import cyllama.llama.llama_cpp as library
    except ImportError as error:
        return {"error": f"llama.cpp's bindings are missing: {error}; install cyllama"}
    errors: deque[str] = deque(maxlen=20)

    def note(level: int, text: str) -> None:
        _give_pages_back(source)  # llama.cpp tells of each tensor before it turns to it
        if level == _ERROR and text.strip():
            errors.append(text.strip())

    library.set_log_callback(note)
    library.llama_backend_init()
    settings = library.LlamaModelQuantizeParams()
    settings.ftype = file_type
    settings.nthread = threads
    settings.allow_requantize = requantize
    try:
        library.model_quantize(source, destination, settings)
    except Exception as error:
        return {"error": "; ".join(errors) or f"{type(error).__name__}: {error}"}
    return {}


def _give_pages_back(file: str) -> None:
    """Let the system have the mapped pages of a file that were read; a later look reads them again.

    llama.cpp maps its source and keeps all that it has read of it, in the end the whole model.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    maps = Path("/proc/self/maps")
    if advice is None or not maps.exists():
        return  # not this system's to give back
    wanted = os.path.realpath(file)
    for line in maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place, _, _, _, _, *named = line.split(maxsplit=5)
        if named == [wanted]:
            begin, end = (int(address, 16) for address in place.split("-"))
            ctypes.CDLL(None).madvise(
                ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), ctypes.c_int(advice)
            )


if __name__ == "__main__":
    main()
