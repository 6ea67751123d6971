"""What converters, quantizers and bad memory do to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.families.row_orders import paired
from pytest_aprqa.formats.checkpoint import read_json_object
from pytest_aprqa.mutation.editing import edit_tensors, pick, tensor_names, values_of
from pytest_aprqa.mutation.operator import (
    Damage,
    NotApplicable,
    Site,
    Subject,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Array = np.ndarray[Any, Any]

ALL = (Subject.SOURCE, Subject.GGUF, Subject.APR)
Q, K, V, OUT = (f"{n}_proj.weight" for n in "qkvo")
GATE, UP, DOWN = (f"{n}_proj.weight" for n in ("gate", "up", "down"))
NORM, EMBEDDING = "input_layernorm.weight", "embed_tokens.weight"
BIAS = "q_proj.bias"


def on(role: str, told: str, edit: Callable[[Array, Site], Array]) -> Callable[[Site], Damage]:
    """An operator's work on the one tensor of a role."""

    def apply(site: Site) -> Damage:
        name = pick(site.path, role)
        edit_tensors(site.path, {name: lambda values: edit(values, site)})
        return Damage(f"{name}: {told.format(site.size)}", (name,))

    return apply


def noise(values: Array, site: Site) -> Array:
    """Gaussian noise of so many standard deviations."""
    import numpy as np

    noise = np.asarray(site.random().standard_normal(values.shape), np.float32)
    return np.asarray(values + noise * np.float32(values.std() * site.size), np.float32)


def rows_(values: Array, site: Site) -> Array:
    """The first rows, as many as a share of all, zeroed."""
    values[: max(1, int(len(values) * site.size))] = 0
    return values


def columns_(values: Array, site: Site) -> Array:
    """The first columns, a share of all, zeroed."""
    values[:, : max(1, int(values.shape[1] * site.size))] = 0
    return values


def permuted(values: Array, site: Site) -> Array:
    """So many rows in a random cycle."""
    count = min(len(values), max(2, int(site.size if site.size > 1 else len(values) * site.size)))
    rows = site.random().choice(len(values), count, replace=False)
    moved = values.copy()
    moved[rows] = values[[*rows[1:], rows[0]]]
    return moved


def permuted_columns(values: Array, site: Site) -> Array:
    """So many columns in a random cycle."""
    changed: Array = permuted(values.T.copy(), site).T.copy()
    return changed


def flip_bits(values: Array, site: Site) -> Array:
    """In so many random values, one bit of the upper half of a float32 word: what bfloat16 keeps.

    The size is (values, bit from the top).
    """
    import numpy as np

    count, bit = site.size
    flat = values.reshape(-1).view(np.uint32)
    places = site.random().choice(flat.size, min(count, flat.size), replace=False)
    flat[places] ^= np.uint32(1 << (31 - bit))
    return values


def coarse(values: Array, site: Site) -> Array:
    """Rounded to so many steps of the largest value of each row."""
    import numpy as np

    largest = np.abs(values).max(axis=-1, keepdims=True) / site.size
    return np.asarray(np.round(values / np.maximum(largest, 1e-30)) * largest, np.float32)


def clipped(values: Array, site: Site) -> Array:
    """Cut off at so many standard deviations."""
    import numpy as np

    limit = float(values.std()) * site.size
    return np.clip(values, -limit, limit)


def _heads_of(site: Site) -> tuple[int, int, int]:
    """Query heads, key heads, head size.

    Raises:
        NotApplicable: config.json does not say.
    """
    config = read_json_object(site.path / "config.json")
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if not heads or not hidden:
        raise NotApplicable("config.json names no attention heads")
    return (
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or hidden // heads,
    )


def one_head(change: Callable[[Array, Site], Array], told: str) -> Callable[[Site], Damage]:
    """Work on the rows of one query head."""

    def apply(site: Site) -> Damage:
        _, _, size = _heads_of(site)
        name = pick(site.path, Q)

        def edit(values: Array) -> Array:
            values[size : 2 * size] = change(values[size : 2 * size], site)
            return values

        edit_tensors(site.path, {name: edit})
        return Damage(f"{name}: head 1 {told.format(site.size)}", (name,))

    return apply


def swap_heads(site: Site) -> Damage:
    """Query heads in a cycle: so many of them, or all."""
    heads, _, size = _heads_of(site)
    name = pick(site.path, Q)
    moved = heads if site.size == "all" else min(heads, int(site.size))
    order = [*range(1, moved), 0, *range(moved, heads)]

    def edit(values: Array) -> Array:
        return values.reshape(heads, size, -1)[order].reshape(values.shape)

    edit_tensors(site.path, {name: edit})
    return Damage(f"{name}: {moved} heads exchanged", (name,))


def weave(site: Site) -> Damage:
    """Rows of queries and keys in the order of the other rope style."""
    heads, groups, size = _heads_of(site)
    roles = {"both": ((Q, heads), (K, groups)), "keys": ((K, groups),)}[site.size]
    names = [(pick(site.path, role), count) for role, count in roles]
    edits = {name: _woven(count, size) for name, count in names}
    edit_tensors(site.path, edits)
    return Damage(f"{', '.join(edits)}: rows in the order of the other rope style", tuple(edits))


def _woven(count: int, size: int) -> Callable[[Array], Array]:
    return lambda values: values[paired(count, size)]


def exchange(
    first: tuple[str, int | None], second: tuple[str, int | None]
) -> Callable[[Site], Damage]:
    """The values of two tensors of one shape, exchanged."""

    def apply(site: Site) -> Damage:
        one, two = (pick(site.path, role, layer=layer) for role, layer in (first, second))
        a, b = values_of(site.path, one), values_of(site.path, two)
        if a.shape != b.shape or one == two:
            raise NotApplicable(f"{one} and {two} cannot be exchanged")
        edit_tensors(site.path, {one: lambda _: b, two: lambda _: a})
        return Damage(f"{one} and {two} exchanged", (one, two))

    return apply


def copy_over(site: Site) -> Damage:
    """Tensors of layer 0 written over those of the last layer."""
    roles = {"layer": (Q, K, V, OUT, GATE, UP, DOWN), "matrix": (UP,), "norm": (NORM,)}[site.size]
    edits: dict[str, Callable[[Array], Array]] = {}
    for role in roles:
        source, target = pick(site.path, role, layer=0), pick(site.path, role, layer=-1)
        if source == target:
            raise NotApplicable("the model has one layer")
        edits[target] = _constant(values_of(site.path, source))
    edit_tensors(site.path, edits)
    return Damage(f"{', '.join(edits)}: the values of layer 0", tuple(edits))


def _constant(values: Array) -> Callable[[Array], Array]:
    return lambda _: values


def transpose(site: Site) -> Damage:
    """A square query projection, transposed."""
    name = pick(site.path, Q)
    shape = values_of(site.path, name).shape
    if shape[0] != shape[1]:
        raise NotApplicable(f"{name} is not square")
    edit_tensors(site.path, {name: lambda values: values.T.copy()})
    return Damage(f"{name} transposed", (name,))


def drop(role: str) -> Callable[[Site], Damage]:
    """The tensor of a role left out."""

    def apply(site: Site) -> Damage:
        name = pick(site.path, role)
        edit_tensors(site.path, {}, drop=(name,))
        return Damage(f"{name} dropped", (name,))

    return apply


def zero_bias(site: Site) -> Damage:
    """A bias scaled."""
    name = pick(site.path, BIAS)
    edit_tensors(site.path, {name: lambda values: values * site.size})
    return Damage(f"{name} scaled by {site.size}", (name,))


def expert(site: Site) -> Damage:
    """One expert of a mixture scaled."""
    names = [n for n in tensor_names(site.path) if ".experts." in n and n.endswith(DOWN)]
    if not names:
        raise NotApplicable("the model is no mixture of experts")
    edit_tensors(site.path, {names[0]: lambda values: values * site.size})
    return Damage(f"{names[0]}: an expert scaled by {site.size}", (names[0],))


def shift(values: Array, site: Site) -> Array:
    """Rows shifted by so many."""
    import numpy as np

    return np.roll(values, int(site.size), axis=0)
