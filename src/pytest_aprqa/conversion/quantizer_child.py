"""The process that llama.cpp's quantizer runs in: one file in, one file out, then it ends."""

from __future__ import annotations

from collections import deque
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


if __name__ == "__main__":
    main()
