"""The form that every family's table has: options, GGUF keys, rope, tensors and limits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Settings = Mapping[str, Any]
"""What a config says, by the tables' own names ("hidden", "kv_heads"), defaults filled in."""

REQUIRED = object()
"""A default of an option that must be given."""


@dataclass(frozen=True, slots=True)
class Option:
    """One key of config.json."""

    name: str
    """How the tables call it."""
    key: str
    """How config.json calls it."""
    kind: str
    """count (a whole number above 0), number, flag, text, or whole (0 is allowed)."""
    default: Any = REQUIRED
    """What transformers assumes when the key is absent or null; a function of the settings read
    so far, or REQUIRED. None: the key stays unset."""
    also: tuple[str, ...] = ()
    """Other spellings of the key."""
    allowed: tuple[Any, ...] = ()
    """The only values that any format here can express; others are refused."""
    gguf: str = ""
    """The GGUF key after the architecture's name that holds it."""
    optional: bool = False
    """True when GGUF files may leave the key out, and the default then applies."""
    tensor: str = ""
    """A GGUF tensor that is there exactly when the flag is true (`!`: when it is false)."""
    shape: tuple[str, int] | None = None
    """A GGUF tensor and the dimension of it that is this count."""


@dataclass(frozen=True, slots=True)
class GgufKey:
    """One GGUF key whose value follows from the settings."""

    name: str
    type: str
    setting: str
    """Which setting is its value; the key is left out when that is None."""
    implied: bool = False
    """Not written by llama.cpp's converter, but other files may have it: compared if there."""


@dataclass(frozen=True, slots=True)
class TensorRule:
    """One kind of tensor: Hugging Face's name and shape, and what becomes of it elsewhere.

    Names lack `.weight`; `{n}` is the layer, `{e}` the expert or head that GGUF stacks.
    """

    hf: str
    gguf: str
    shape: tuple[str, ...]
    """Names of settings, outermost first, as Hugging Face has it (of one `{e}`, if there)."""
    bias: str = ""
    """The setting (a flag) that says whether there is a bias of the first dimension."""
    order: str = ""
    """The movement of rows on the way to GGUF: a name of `row_orders`."""
    plus_one: bool = False
    """GGUF holds the weight plus one (Gemma's norms multiply by 1 + weight)."""
    transposed: bool = False
    """GGUF holds the transpose (GPT-2's Conv1D)."""
    when: str = ""
    """A flag that must be true (`!`: false); `dense` or `moe`: only such layers have it."""
    count: str = ""
    """The setting that counts `{e}`."""
    bare: bool = False
    """The name is whole: no `.weight`."""
    apr: tuple[tuple[str, str], ...] = ()
    """APR's names, each with the setting that counts its rows (after `apr_order`)."""
    apr_order: str = ""
    """The movement of rows on the way to APR, before they are split."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a config may say but llama.cpp cannot compute."""

    setting: str
    values: tuple[Any, ...] | str
    """What it can compute; a text names the setting that holds it."""
    reason: str


@dataclass(frozen=True, slots=True)
class RopeTable:
    """Which rotary embeddings a family has and how GGUF writes them."""

    types: tuple[str, ...] = ("default", "linear", "yarn")
    partial: float | None = None
    """The default of partial_rotary_factor; None: the family rotates whole heads."""
    local: bool = False
    """True when sliding layers have a base of their own (Gemma 3)."""
    theta: float | None = 10_000.0
    """transformers' default base; None: it must be given."""
    theta_written: bool = True
    """llama.cpp's converter writes rope.freq_base; False: only when it is not 10000."""
    dim: str = "head_dim"
    """The setting that is the size of what is rotated, before partial_rotary_factor."""
    adjacent: bool = False
    """Hugging Face's weights rotate adjacent pairs (DeepSeek), not halves."""
    original_key: bool = False
    """config.json has original_max_position_embeddings beside the rope parameters (Phi-3)."""


Extra = Callable[[Any, dict[str, Any]], None]
"""Reads a config's odd keys into the settings: (reader, settings)."""


Restore = Callable[[dict[str, Any], Settings, Mapping[str, Any], Collection[str]], None]
"""Completes a config.json made from GGUF: (config, settings, values by key without the
architecture's name, names of tensors)."""


def no_restore(
    config: dict[str, Any],
    settings: Settings,
    keys: Mapping[str, Any],
    tensors: Collection[str],
) -> None:
    """In most families the options say all."""


def no_extra(reader: Any, settings: dict[str, Any]) -> None:
    """Most families have no odd keys."""


@dataclass(frozen=True, slots=True)
class Family:
    """One family's table."""

    name: str
    """Its APR architecture, and how messages call it."""
    model_types: tuple[str, ...]
    architectures: tuple[str, ...]
    arch: str
    """GGUF's general.architecture."""
    options: tuple[Option, ...]
    keys: tuple[GgufKey, ...]
    tensors: tuple[TensorRule, ...]
    rope: RopeTable | None = RopeTable()
    limits: tuple[Limit, ...] = ()
    inert: tuple[str, ...] = ()
    """Keys of config.json that change nothing in this family."""
    neutral: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Odd keys with the one value that changes nothing; any other is refused."""
    early: Callable[[dict[str, Any]], None] = lambda settings: None
    """Derives settings from the options before the common sizes are."""
    extra: Extra = no_extra
    """Reads odd keys; also adds derived settings."""
    restore: Restore = no_restore
    """Writes odd keys when config.json is made from GGUF."""
    head_needed: bool = False
    """llama.cpp wants output.weight even when it equals the embedding."""
    window_ignored: bool = False
    """llama.cpp attends to everything where transformers attends to the `window` last tokens."""
    apr_config: bool = False
    """config.json can be made from APR's typed metadata alone."""
    prefix: str = ""
    """What published checkpoints may lack at the beginning of every name."""
    buffers: str = ""
    """A regular expression of names that are no weights (masks, frequencies)."""
