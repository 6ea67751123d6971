"""Gates over the shape of every tensor, by its role, against what config.json asks for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.files.structure import role_of, skeleton, structure
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES: Family[ModelLab] = Family(
    domain="layout", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.TENSOR
)
ORDER: Family[ModelLab] = Family(
    domain="layout", place=Place.MODEL, cost=Cost.HEADERS, rung=Rung.TENSOR
)
_P0 = Severity.P0
_ROLES = (
    "embedding", "lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
    "down_proj", "vector", "bias",
)  # fmt: skip
"""Roles that have a gate of their own."""


def _of(lab: ModelLab, judges: Callable[[str], bool], what: str) -> Finding:
    """Every tensor whose role `judges` picks has the shape that the model's class gives it."""
    found = lab.once(skeleton).differences
    if found is None or found.trouble:
        return without_meaning("the model that config.json describes cannot be made")
    there = [name for name in lab.once(structure).tensors if judges(role_of(name))]
    wrong = [(n, have, want) for n, have, want in found.mismatched if judges(role_of(n))]
    if wrong:
        name, have, want = wrong[0]
        hint = ", which is its transpose" if have == want[::-1] and len(have) == 2 else ""
        return refuted(
            f"{name} has shape {list(have)}; expected {list(want)} of {found.model_class}{hint}",
            culprit=name,
        )
    return held(f"{len(there)} {what} as expected") if there else without_meaning(f"no {what}")


def _one(role: str) -> Callable[[str], bool]:
    return lambda other: other == role


@SHAPES.gate("F-LAYOUT-EMBED-001", "The embedding is vocabulary × hidden size.", severity=_P0)
def embedding_shape(lab: ModelLab) -> Finding:
    """One row for each token."""
    return _of(lab, _one("embedding"), "embedding")


@SHAPES.gate("F-LAYOUT-CONTRACT-002", "The head is vocabulary × hidden size.", severity=_P0,
             applies="where the head is stored, not tied to the embedding")  # fmt: skip
def head_shape(lab: ModelLab) -> Finding:
    """One row for each token, as in the embedding."""
    return _of(lab, _one("lm_head"), "head")


@SHAPES.gate(
    "F-LAYOUT-Q-001", "Query projections are heads · head size × hidden size.", severity=_P0
)
def query_shape(lab: ModelLab) -> Finding:
    """Head size is config.json's own where it gives one."""
    return _of(lab, _one("q_proj"), "query projections")


@SHAPES.gate(
    "F-LAYOUT-K-001", "Key projections are key heads · head size × hidden size.", severity=_P0
)
def key_shape(lab: ModelLab) -> Finding:
    """With grouped queries there are fewer key heads than query heads."""
    return _of(lab, _one("k_proj"), "key projections")


@SHAPES.gate(
    "F-LAYOUT-V-001", "Value projections are value heads · head size × hidden size.", severity=_P0
)
def value_shape(lab: ModelLab) -> Finding:
    """As many value heads as key heads."""
    return _of(lab, _one("v_proj"), "value projections")


@SHAPES.gate(
    "F-LAYOUT-O-001", "Output projections are hidden size × heads · head size.", severity=_P0
)
def output_shape(lab: ModelLab) -> Finding:
    """Back from the heads to the stream of hidden states."""
    return _of(lab, _one("o_proj"), "output projections")


@SHAPES.gate(
    "F-LAYOUT-GATE-001", "Gate projections are feed-forward size × hidden size.", severity=_P0
)
def gate_shape(lab: ModelLab) -> Finding:
    """One row for each neuron."""
    return _of(lab, _one("gate_proj"), "gate projections")


@SHAPES.gate("F-LAYOUT-UP-001", "Up projections are feed-forward size × hidden size.", severity=_P0)
def up_shape(lab: ModelLab) -> Finding:
    """One row for each neuron."""
    return _of(lab, _one("up_proj"), "up projections")


@SHAPES.gate(
    "F-LAYOUT-DOWN-001", "Down projections are hidden size × feed-forward size.", severity=_P0
)
def down_shape(lab: ModelLab) -> Finding:
    """One column for each neuron."""
    return _of(lab, _one("down_proj"), "down projections")


@SHAPES.gate("F-LAYOUT-CONTRACT-003", "Norms are as long as what they normalize.", severity=_P0)
def norm_shape(lab: ModelLab) -> Finding:
    """The hidden size, or the head size for norms of queries and keys."""
    return _of(lab, _one("vector"), "norms")


@SHAPES.gate("F-LAYOUT-BIAS-001", "Biases are as long as their projection has rows.", severity=_P0)
def bias_shape(lab: ModelLab) -> Finding:
    """With grouped queries, biases of keys and values are shorter than the queries'."""
    return _of(lab, _one("bias"), "biases")


@SHAPES.gate(
    "F-LAYOUT-CONTRACT-001",
    "All other weights have the shape of their place.",
    severity=_P0,
    applies="where there are weights of other roles: fused projections, experts, routers",
)
def other_shapes(lab: ModelLab) -> Finding:
    """Fused projections, experts, routers, positions."""
    return _of(lab, lambda role: role not in _ROLES, "weights of other roles")


@ORDER.gate("G0-LAYOUT-001", "No matrix is stored transposed: rows are outputs.", severity=_P0)
def row_major(lab: ModelLab) -> Finding:
    """Square matrices look alike either way: other gates see those by their values."""
    found = lab.once(skeleton).differences
    if found is None:
        return without_meaning("the model that config.json describes cannot be made")
    for name, have, want in found.mismatched:
        if len(have) == 2 and have == want[::-1]:
            return refuted(
                f"{name} is stored as {list(have)}, the transpose of {list(want)}", culprit=name
            )
    matrices = [i for i in lab.once(structure).tensors.values() if len(i.shape) == 2]
    if not matrices:
        return undecided("there are no matrices")
    return held(f"{len(matrices)} matrices, none transposed")


@ORDER.gate("F-LAYOUT-SIBLINGS-001", "Tensors of one role have one shape in every layer.")
def siblings_agree(lab: ModelLab) -> Finding:
    """Layers of another kind (dense among experts, global among local) make groups of their own."""
    groups: dict[str, list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
    for name, info in lab.once(structure).tensors.items():
        groups[re.sub(r"\.\d+(?=\.)", ".N", name)].append((name, info.shape))
    for group in groups.values():
        (usual, times), *others = Counter(shape for _, shape in group).most_common()
        if others and times == len(group) - 1:
            odd = next(name for name, shape in group if shape != usual)
            shape = others[0][0]
            return refuted(
                f"{odd} has shape {list(shape)}, the {times} like it have {list(usual)}",
                culprit=odd,
            )
    siblings = sum(len(group) > 1 for group in groups.values())
    if not siblings:
        return without_meaning("no role is held by more than one tensor")
    return held(f"{siblings} roles of several layers, each of one shape")


FAMILIES = (SHAPES, ORDER)
ALIASES = {
    "G0-LAYOUT-CRITICAL": "F-LAYOUT-CONTRACT-002",
    "F-LAYOUT-002": "G0-LAYOUT-001",
    "F-LAYOUT-CONTRACT-004": "G0-VALIDATE-001",
}
