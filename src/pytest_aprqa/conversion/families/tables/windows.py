"""Sliding windows: which layers see only the last tokens, and what llama.cpp makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FULL, SLIDING = "full_attention", "sliding_attention"


def only_full(reader: Any, settings: dict[str, Any]) -> None:
    """Every layer sees everything: `layer_types`, if given, says so."""
    _expect(reader, [FULL] * settings["layers"])


def one_window(reader: Any, settings: dict[str, Any]) -> None:
    """All layers have the same window, or none (Mistral, StarCoder2)."""
    _expect(reader, [SLIDING if settings["window"] else FULL] * settings["layers"])


def switched_window(reader: Any, settings: dict[str, Any]) -> None:
    """Qwen's window, off in every published model: `use_sliding_window` must be false."""
    if reader.get("use_sliding_window"):
        raise reader.fail("use_sliding_window", "false (llama.cpp has no window here)")
    reader.get("sliding_window")
    reader.get("max_window_layers")
    _expect(reader, [FULL] * settings["layers"])


def every(period: int, *keys: str) -> Callable[[Any, dict[str, Any]], None]:
    """Each `period`-th layer sees everything, the others a window (Gemma)."""

    def read(reader: Any, settings: dict[str, Any]) -> None:
        for key in keys:
            if reader.get(key) not in (None, period):
                raise reader.fail(key, str(period))
        layers = range(1, settings["layers"] + 1)
        _expect(reader, [SLIDING if layer % period else FULL for layer in layers])

    return read


def _expect(reader: Any, types: list[str]) -> None:
    given = reader.get("layer_types")
    if given is not None and list(given) != types:
        raise reader.fail("layer_types", f"none or {types!r:.200}, as llama.cpp computes it")
