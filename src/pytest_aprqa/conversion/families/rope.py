"""Rotary position embeddings: config.json's two spellings, GGUF's keys, and factor tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.gguf_field import GgufField, float32, string, uint32

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.conversion.families.family_table import RopeTable, Settings

Values = Callable[[str], "np.ndarray[Any, Any]"]
"""A tensor's float32 values, by its name."""

FREQS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
"""GGUF's tensors of divisors of the rotation frequencies; Hugging Face has none of them."""
ROPE_TENSORS = (FREQS, LONG, SHORT)
_RAMP = MappingProxyType({"beta_fast": 32, "beta_slow": 1})
"""Where YaRN's ramp begins and ends, in rotations (https://arxiv.org/abs/2309.00071)."""
_COMMON = ("rope_theta", "rope_type", "type", "partial_rotary_factor")
_NEEDED = MappingProxyType(
    {
        "default": (),
        "linear": ("factor",),
        "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
        "yarn": ("factor",),
        "longrope": ("short_factor", "long_factor"),
    }
)
_OPTIONAL = MappingProxyType(
    {
        "default": ("original_max_position_embeddings", "factor"),
        "linear": ("original_max_position_embeddings",),
        "llama3": ("original_max_position_embeddings",),
        "yarn": (
            *("original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"),
            *("mscale", "mscale_all_dim", "truncate"),
        ),
        "longrope": ("original_max_position_embeddings", "factor", "attention_factor"),
    }
)


def read_rope(table: RopeTable, reader: Any, settings: dict[str, Any]) -> None:
    """Puts `rope` (type and parameters), `theta`, `rotary`, perhaps `local_theta` into settings."""
    parameters = reader.get("rope_parameters")
    scaling, theta = reader.get("rope_scaling"), reader.get("rope_theta")
    partial, local = reader.get("partial_rotary_factor"), None
    if table.local:
        local = reader.get("rope_local_base_freq")
    original = reader.get("original_max_position_embeddings") if table.original_key else None
    for key, value in (("rope_parameters", parameters), ("rope_scaling", scaling)):
        if value is not None and not isinstance(value, Mapping):
            raise reader.fail(key, "an object")
    if parameters and scaling and dict(parameters) != dict(scaling):
        raise reader.fail("rope_scaling", "it once: rope_parameters says otherwise")
    found = dict(parameters or scaling or {})
    if table.local:
        found, local = _two_ropes(reader, found, theta, local)
        settings["local_theta"] = local
    rope = _checked(table, found, theta, partial)
    if original is not None:
        rope.setdefault("original_max_position_embeddings", original)
    settings["theta"] = rope.pop("rope_theta")
    share = rope.pop("partial_rotary_factor", table.partial or 1.0)
    if share != 1 and table.partial is None:
        raise reader.fail("partial_rotary_factor", "1 (whole heads are rotated)")
    settings["partial"] = share
    settings["rotary"] = int(settings[table.dim] * share)
    settings["rope"] = rope
    _check_factors(rope, settings)


def _two_ropes(
    reader: Any, found: dict[str, Any], theta: Any, local: Any
) -> tuple[dict[str, Any], float]:
    """Gemma 3: one rope for the layers that see all, another for those that see a window."""
    if "full_attention" not in found and "sliding_attention" not in found:
        return {"rope_theta": theta or 1_000_000.0, **found}, float(local or 10_000.0)
    full = {"rope_theta": theta or 1_000_000.0, **(found.pop("full_attention", None) or {})}
    sliding = {"rope_theta": local or 10_000.0, **(found.pop("sliding_attention", None) or {})}
    if found:
        raise reader.fail("rope_parameters", "only full_attention and sliding_attention in it")
    base = sliding.pop("rope_theta")
    if sliding.pop("rope_type", "default") != "default" or sliding:
        raise reader.fail("rope_parameters", "unscaled rope in its sliding layers")
    return full, float(base)


def _checked(table: RopeTable, found: dict[str, Any], theta: Any, partial: Any) -> dict[str, Any]:
    kind = found.get("rope_type", found.get("type", "default")) or "default"
    if kind == "su":  # LongRoPE's name in Phi-3's first configs
        kind = "longrope"
    if kind not in table.types:
        raise ConversionError(
            f"config.json: the rope type {kind!r} is not one of {', '.join(table.types)}, which "
            f"this family can be converted with"
        )
    for key, outside in (("rope_theta", theta), ("partial_rotary_factor", partial)):
        if outside is not None and found.get(key, outside) != outside:
            raise ConversionError(
                f"config.json: {key} is {outside} and in rope_parameters {found[key]}; "
                f"expected one value"
            )
        if outside is not None:
            found[key] = outside
    known = (*_COMMON, *_NEEDED[kind], *_OPTIONAL[kind])
    for key in found:
        if key not in known:
            raise ConversionError(
                f"config.json: rope type {kind} has no {key} (it is {found[key]!r:.80}); "
                f"expected only {', '.join(known)}"
            )
    for key in _NEEDED[kind]:
        if found.get(key) is None:
            raise ConversionError(f"config.json: rope type {kind} needs {key}; it is missing")
    rope = {key: value for key, value in found.items() if key != "type" and value is not None}
    rope["rope_type"] = kind
    if rope.setdefault("rope_theta", table.theta) is None:
        raise ConversionError("config.json: rope_theta is missing; this family needs it")
    return rope


def _check_factors(rope: dict[str, Any], settings: Settings) -> None:
    kind, positions = rope["rope_type"], settings["positions"]
    if kind == "default":
        rope.pop("factor", None)
    if kind in ("llama3", "yarn", "longrope"):
        rope.setdefault("original_max_position_embeddings", positions)
    if kind == "longrope":
        for key in ("short_factor", "long_factor"):
            if len(rope[key]) != settings["rotary"] // 2:
                raise ConversionError(
                    f"config.json: {key} has {len(rope[key])} values; "
                    f"expected one for each of the {settings['rotary'] // 2} rotated pairs"
                )
        _check_attention_factor(rope, longrope_attention(rope, settings))
    if kind == "yarn":
        if rope.get("truncate", True) is not True:
            raise ConversionError("config.json: rope truncate is false; llama.cpp truncates")
        usual = 0.1 * math.log(rope["factor"]) + 1 if rope["factor"] > 1 else 1.0
        _check_attention_factor(rope, usual)


def _check_attention_factor(rope: dict[str, Any], usual: float) -> None:
    given = rope.pop("attention_factor", None)
    if given is not None and not math.isclose(given, usual, rel_tol=1e-6):
        raise ConversionError(
            f"config.json: rope attention_factor is {given}; expected none, or {usual:.9g} "
            f"as it follows from the factor, for llama.cpp computes it"
        )


def longrope_attention(rope: Mapping[str, Any], settings: Settings) -> float:
    """What LongRoPE multiplies sine and cosine by (https://arxiv.org/abs/2402.13753, 3.3)."""
    original = rope["original_max_position_embeddings"]
    scale = rope.get("factor") or settings["positions"] / original
    return math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0


def rope_fields(table: RopeTable, settings: Settings) -> dict[str, GgufField]:
    """GGUF's rope keys without the architecture's name, as llama.cpp's converter writes them."""
    rope, fields = settings["rope"], {}
    kind = rope["rope_type"]
    if table.theta_written or settings["theta"] != 10_000.0:
        fields["rope.freq_base"] = float32(settings["theta"])
    if table.local:
        fields["rope.freq_base_swa"] = float32(settings["local_theta"])
    if kind in ("linear", "yarn"):
        fields["rope.scaling.type"] = string(kind)
        fields["rope.scaling.factor"] = float32(rope["factor"])
    if kind == "yarn":
        original = rope["original_max_position_embeddings"]
        fields["rope.scaling.original_context_length"] = uint32(original)
        for key in ("beta_fast", "beta_slow"):
            if rope.get(key) is not None:
                fields[f"rope.scaling.yarn_{key}"] = float32(rope[key])
        if rope.get("mscale_all_dim"):
            fields["rope.scaling.yarn_log_multiplier"] = float32(0.1 * rope["mscale_all_dim"])
    if table.original_key:
        original = rope.get("original_max_position_embeddings", settings["positions"])
        fields["rope.scaling.original_context_length"] = uint32(original)
    if kind == "longrope":
        fields["rope.scaling.attn_factor"] = float32(longrope_attention(rope, settings))
    return fields


def check_rope_limits(table: RopeTable, settings: Settings) -> None:
    """Refuse what llama.cpp would rotate otherwise than transformers.

    Raises:
        ConversionError: at YaRN's ramp other than the usual, which llama.cpp's loader does not
            read, and at magnitude scales it does not compute.
    """
    rope = settings["rope"]
    if rope["rope_type"] != "yarn":
        return
    for key, usual in _RAMP.items():
        if rope.get(key, usual) != usual:
            raise ConversionError(
                f"config.json: rope {key} is {rope[key]}; a GGUF file needs {usual}, for "
                f"llama.cpp does not read the key in this family"
            )
    mscale, every = rope.get("mscale"), rope.get("mscale_all_dim")
    fits = mscale == every and bool(every) if table.adjacent else not mscale and not every
    if not fits:
        needed = "equal ones" if table.adjacent else "none"
        raise ConversionError(
            f"config.json: rope mscale is {mscale} and mscale_all_dim {every}; a GGUF file of "
            f"this family needs {needed}, for llama.cpp computes no others"
        )


def rope_tensors(settings: Settings) -> dict[str, np.ndarray[Any, Any]]:
    """GGUF's factor tensors, float32 [rotated pairs]; each frequency is divided by its factor."""
    import numpy as np

    rope = settings.get("rope") or {"rope_type": "default"}
    if rope["rope_type"] == "llama3":
        return {FREQS: llama3_factors(rope, settings["theta"], settings["rotary"])}
    if rope["rope_type"] == "longrope":
        return {
            LONG: np.asarray(rope["long_factor"], np.float32),
            SHORT: np.asarray(rope["short_factor"], np.float32),
        }
    return {}


def llama3_factors(rope: Mapping[str, Any], theta: float, rotary: int) -> np.ndarray[Any, Any]:
    """Llama 3.1's divisors: none for fast rotations, `factor` for slow, a ramp between.

    Formula: https://github.com/meta-llama/llama-models, models/llama3/model.py, apply_scaling.
    """
    import numpy as np

    frequencies = theta ** -(np.arange(0, rotary, 2, dtype=np.float64) / rotary)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    ramp = np.clip((turns - low) / (high - low), 0, 1)
    factors: np.ndarray[Any, Any] = (1 / ((1 - ramp) / factor + ramp)).astype(np.float32)
    return factors
