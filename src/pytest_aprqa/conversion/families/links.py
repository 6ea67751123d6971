"""From a family's rows to concrete tensors: which of one side's become which of the other's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.row_orders import ORDERS

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.conversion.families.family_table import Family, Settings, TensorRule


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of a link."""

    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    """Its last two dimensions lie the other way round than where it comes from."""

    @property
    def straight(self) -> tuple[int, ...]:
        """The shape before the transposition."""
        if not self.transposed:
            return self.shape
        return (*self.shape[:-2], self.shape[-1], self.shape[-2])


@dataclass(frozen=True, slots=True)
class Link:
    """Tensors of Hugging Face that hold the same values as tensors of another format.

    All sources one after another are a list of units of `unit` values; the targets, one after
    another, are the same units in another order.
    """

    sources: tuple[Part, ...]
    targets: tuple[Part, ...]
    unit: int
    order: np.ndarray[Any, Any] | None = None
    """Target unit i is source unit order[i]; None: as they are."""
    plus_one: bool = False
    wide: bool = False
    """The targets are F32, whatever the sources are."""


def gguf_links(family: Family, settings: Settings) -> Iterator[Link]:
    """The family's tensors in GGUF, in the order in which they are written."""
    for rule, layer in _expanded(family, settings):
        yield from _gguf_link(family, rule, settings, layer)


def apr_links(family: Family, settings: Settings) -> Iterator[Link]:
    """The family's tensors in APR; a head that is the embedding again is not among them."""
    for rule, layer in _expanded(family, settings):
        yield from _apr_link(rule, settings, layer)


def _expanded(family: Family, settings: Settings) -> Iterator[tuple[TensorRule, int]]:
    """Rules with the layers they apply to; those before the layers, the layers', those after."""
    outer = [rule for rule in family.tensors if "{n}" not in rule.hf]
    inner = [rule for rule in family.tensors if "{n}" in rule.hf]
    yield from ((rule, 0) for rule in outer[:1] if _is_there(rule, settings, 0))
    for layer in range(settings["layers"]):
        yield from ((rule, layer) for rule in inner if _is_there(rule, settings, layer))
    yield from ((rule, 0) for rule in outer[1:] if _is_there(rule, settings, 0))


def _is_there(rule: TensorRule, settings: Settings, layer: int) -> bool:
    if rule.when in ("dense", "moe"):
        dense: bool = layer < settings["dense_lead"]
        return dense == (rule.when == "dense")
    if rule.when.startswith("!"):
        return not settings[rule.when[1:]]
    return not rule.when or bool(settings[rule.when])


def _has_bias(rule: TensorRule, settings: Settings) -> bool:
    return bool(rule.bias and settings[rule.bias])


def gguf_keeps_f32(name: str, shape: tuple[int, ...]) -> bool:
    """Whether llama.cpp takes the tensor in F32 only, whatever encoding the others are in.

    The rule of its converter (ModelBase.prepare_tensors): one dimension, norms, routers, learned
    positions.
    """
    return (
        len(shape) == 1
        or not name.endswith(".weight")
        or name.endswith(("_norm.weight", ".ffn_gate_inp.weight", "position_embd.weight"))
    )


def _gguf_link(family: Family, rule: TensorRule, settings: Settings, layer: int) -> Iterator[Link]:
    shape = tuple(settings[name] for name in rule.shape)
    order = ORDERS[rule.order](settings) if rule.order else None
    suffix = "" if rule.bare else ".weight"
    sources = _sources(rule, settings, layer, shape, suffix)
    target = rule.gguf.format(n=layer)
    if rule.order == "kv_b":  # the only tensor that becomes two of different form
        yield replace(_kv_b(target, settings, shape), sources=sources, order=order)
        return
    out = (len(sources), *shape) if rule.count else shape
    if rule.transposed:
        out = (*out[:-2], out[-1], out[-2])
    part = Part(target + suffix, out, rule.transposed)
    wide = gguf_keeps_f32(part.name, out)
    yield Link(sources, (part,), shape[-1], order, rule.plus_one, wide)
    if _has_bias(rule, settings):
        rows = shape[-1] if rule.transposed else shape[0]
        yield Link(
            (Part(rule.hf.format(n=layer) + ".bias", (rows,)),),
            (Part(target + ".bias", (rows,)),),
            *(1, order, False, True),
        )


def _sources(
    rule: TensorRule, settings: Settings, layer: int, shape: tuple[int, ...], suffix: str
) -> tuple[Part, ...]:
    if not rule.count:
        return (Part(rule.hf.format(n=layer) + suffix, shape),)
    return tuple(
        Part(rule.hf.format(n=layer, e=each) + suffix, shape)
        for each in range(settings[rule.count])
    )


def _kv_b(target: str, settings: Settings, shape: tuple[int, ...]) -> Link:
    """DeepSeek's expansion of the latent: keys transposed, so that queries absorb them."""
    heads, rank = settings["heads"], shape[-1]
    keys = Part(target + "attn_k_b.weight", (heads, rank, settings["nope"]), transposed=True)
    values = Part(target + "attn_v_b.weight", (heads, settings["v_dim"], rank))
    return Link((), (keys, values), rank)


def _apr_link(rule: TensorRule, settings: Settings, layer: int) -> Iterator[Link]:
    shape = tuple(settings[name] for name in rule.shape)
    suffix = "" if rule.bare else ".weight"
    if rule.count:
        for source in _sources(rule, settings, layer, shape, suffix):
            yield Link((source,), (source,), shape[-1], None, False, len(shape) == 1)
        return
    source = Part(rule.hf.format(n=layer) + suffix, shape)
    names = rule.apr or ((rule.hf, rule.shape[0]),)
    order = ORDERS[rule.apr_order](settings) if rule.apr_order else None
    rows = [settings[size] for _, size in names]
    if rule.transposed and len(names) > 1:  # columns are split: a unit is one part of a row
        columns = rows[0]
        parts = tuple(Part(name.format(n=layer) + suffix, (shape[0], columns)) for name, _ in names)
        yield Link((source,), parts, columns, order)
    else:
        sizes = rows if len(names) > 1 else [shape[0]]
        parts = tuple(
            Part(name.format(n=layer) + suffix, (size, *shape[1:]))
            for (name, _), size in zip(names, sizes, strict=True)
        )
        yield Link((source,), parts, shape[-1], order, False, len(shape) == 1)
    if _has_bias(rule, settings):
        total = shape[-1] if rule.transposed else shape[0]
        sizes = rows if len(names) > 1 else [total]
        biases = tuple(
            Part(name.format(n=layer) + ".bias", (size,))
            for (name, _), size in zip(names, sizes, strict=True)
        )
        bias = Part(rule.hf.format(n=layer) + ".bias", (total,))
        bias_order = None if rule.transposed else order
        yield Link((bias,), biases, 1, bias_order, False, True)


def units_of(part: Part, unit: int) -> int:
    """How many units a tensor has."""
    return math.prod(part.shape) // unit
