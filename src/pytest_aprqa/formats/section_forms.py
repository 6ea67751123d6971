"""Sections that set gates, in the types' form: quoted truth, numbers that YAML takes for text."""

from __future__ import annotations

import re
from typing import Any

SECTIONS = (
    "differential_tests",
    "profile_ci",
    "trace_payload",
    "contract_tests",
    "ollama_parity",
    "hf_parity",
)
NUMBERS = frozenset(
    {
        "tolerance",
        "layernorm",
        "embedding",
        "attention",
        "ffn",
        "lm_head",
        "min_throughput",
        "min_throughput_cpu",
        "min_throughput_gpu",
        "max_p50_ms",
        "max_p99_ms",
        "max_ttft_ms",
        "max_memory_growth",
        "temperature",
        "min_perf_ratio",
    }
)
"""Keys of numbers that may be written as text."""
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A number as text."""


def with_plain_values(section: Any) -> Any:
    """The section with `enabled` as a boolean and limits as numbers, where text stands for them.

    YAML 1.1 takes `1e-5` for a text, because it has no point.
    """
    if not isinstance(section, dict):
        return section
    return {key: _plain(key, value) for key, value in section.items()}


def _plain(key: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return with_plain_values(value)
    if isinstance(value, str) and key == "enabled":
        return _TRUTH.get(value.lower(), value)
    if isinstance(value, str) and key in NUMBERS and re.fullmatch(NUMBER, value):
        return float(value)
    return value
