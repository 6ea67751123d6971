"""Rotary embeddings out of a GGUF file: the keys, and the parameters behind factor tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.rope import (
    FREQS,
    LONG,
    SHORT,
    Values,
    llama3_factors,
    longrope_attention,
)
from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.conversion.families.family_table import Family, RopeTable, Settings
    from pytest_aprqa.formats.checkpoint import TensorInfo
    from pytest_aprqa.formats.gguf_field import GgufField

_LOW, _HIGH = 1.0, 4.0
"""Llama 3's own low_freq_factor and high_freq_factor; every published scaling has them."""


def rope_config(
    family: Family,
    settings: Settings,
    fields: Mapping[str, GgufField],
    tensors: Mapping[str, TensorInfo],
    values: Values | None,
) -> dict[str, Any]:
    """`rope_parameters` and, where the family has it, original_max_position_embeddings."""
    table = family.rope
    assert table is not None
    keys = {
        key.removeprefix(f"{family.arch}.rope."): _plain(field.value)
        for key, field in fields.items()
        if key.startswith(f"{family.arch}.rope.")
    }
    rope: dict[str, Any] = {"rope_theta": keys.get("freq_base", 10_000.0), "rope_type": "default"}
    whole = _whole(table, settings)
    if table.partial is not None:
        rope["partial_rotary_factor"] = keys.get("dimension_count", whole) / whole
    rotary = int(keys.get("dimension_count", whole))
    kind = keys.get("scaling.type", "none")
    if kind in ("linear", "yarn"):
        rope |= {"rope_type": kind, "factor": keys.get("scaling.factor")}
    elif kind not in ("none", "longrope"):
        raise ConversionError(
            f"the GGUF file's {family.arch}.rope.scaling.type is {kind!r}; "
            f"expected none, linear, yarn or longrope"
        )
    if kind == "yarn":
        rope["original_max_position_embeddings"] = keys.get("scaling.original_context_length")
        for key in ("beta_fast", "beta_slow"):
            if f"scaling.yarn_{key}" in keys:
                rope[key] = keys[f"scaling.yarn_{key}"]
        if "scaling.yarn_log_multiplier" in keys:
            every = round(10 * keys["scaling.yarn_log_multiplier"], 6)
            rope |= {"mscale": every, "mscale_all_dim": every}
    if FREQS in tensors:
        rope |= _llama3(_read(values, FREQS), rope["rope_theta"], rotary, settings)
    return _placed(table, rope, keys, tensors, values, settings)


def _placed(
    table: RopeTable,
    rope: dict[str, Any],
    keys: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    values: Values | None,
    settings: Settings,
) -> dict[str, Any]:
    """The parameters where the family's config.json has them."""
    if table.local:
        sliding = {"rope_theta": keys.get("freq_base_swa", 10_000.0), "rope_type": "default"}
        return {"rope_parameters": {"full_attention": rope, "sliding_attention": sliding}}
    if not table.original_key:
        return {"rope_parameters": rope}
    original = keys.get("scaling.original_context_length", settings["positions"])
    if LONG in tensors and SHORT in tensors:
        rope |= {
            "rope_type": "longrope",
            "long_factor": [_plain(float(each)) for each in _read(values, LONG)],
            "short_factor": [_plain(float(each)) for each in _read(values, SHORT)],
            "original_max_position_embeddings": original,
        }
        attention = keys.get("scaling.attn_factor", 1.0)
        if not math.isclose(longrope_attention(rope, settings), attention, rel_tol=1e-6):
            rope["factor"] = math.exp((attention**2 - 1) * math.log(original))
    return {"rope_parameters": rope, "original_max_position_embeddings": original}


def _whole(table: RopeTable, settings: Settings) -> int:
    size = settings.get(table.dim)
    return int(size if size is not None else settings["hidden"] // settings["heads"])


def tidy(value: float) -> float:
    """The shortest decimal that is this float32: 1e-06, not 9.999999974752427e-07."""
    import numpy as np

    return float(str(np.float32(value)))


def _plain(value: Any) -> Any:
    return tidy(value) if isinstance(value, float) else value


def _read(values: Values | None, name: str) -> np.ndarray[Any, Any]:
    if values is None:
        raise ConversionError(
            f"the GGUF file has {name}: the rope parameters are in its values; "
            f"config_from_gguf needs `values` to read them"
        )
    return values(name)


def _llama3(
    factors: np.ndarray[Any, Any], theta: float, rotary: int, settings: Settings
) -> dict[str, Any]:
    """Llama 3's parameters from its divisors; only ratios of them matter, so 1 and 4 are taken."""
    import numpy as np

    rope: dict[str, Any] = {
        "rope_type": "llama3",
        "factor": _plain(float(factors.max())),
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
    }
    lengths = {8192, *(1 << power for power in range(4, settings["positions"].bit_length()))}
    for original in sorted(lengths, key=lambda length: length != 8192):
        rope["original_max_position_embeddings"] = original
        if factors.size == rotary // 2 and np.allclose(
            llama3_factors(rope, theta, rotary), factors, rtol=1e-5
        ):
            return rope
    raise ConversionError(
        f"the GGUF file's {FREQS} is not Llama 3's scaling of a power of two of positions; "
        f"its rope parameters cannot be told from it: give the model's config.json"
    )
