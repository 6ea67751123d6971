"""Gates over the tensors of a derived file, one for each kind of defect that a converter makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_aprqa.checks.diagnosis.defects import Defect, Diagnosis
from pytest_aprqa.checks.diagnosis.tensors import cost_of, diagnose
from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_aprqa.domain.model import Quantization

DERIVED = frozenset({Format.APR, Format.GGUF})
TENSORS: Family[TargetLab] = Family(
    domain="conversion",
    place=Place.TARGET,
    cost=Cost.WEIGHTS,
    rung=Rung.TENSOR,
    formats=DERIVED,
)
_P0 = Severity.P0
_EMBEDDING = re.compile(r"(embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_NORM = re.compile(r"norm|(^|\.)ln_")
_LAYERED = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


def diagnosis(lab: TargetLab) -> tuple[Diagnosis, ...]:
    """Every tensor of the target's file that is not the ground truth's within its encoding."""
    cost = cost_of(lab.quantization, by_apr=lab.format is Format.APR)
    return diagnose(lab.model.portable, lab.portable, cost)


def diagnose_files(
    original: Path, derived: Path, quantization: Quantization | None
) -> tuple[Diagnosis, ...]:
    """The same of two files or directories, by hand."""
    from pytest_aprqa.conversion.reading import read_portable
    from pytest_aprqa.formats.opening import open_checkpoint

    by_apr = open_checkpoint(derived).format is Format.APR
    cost = cost_of(quantization, by_apr=by_apr)
    return diagnose(read_portable(original), read_portable(derived), cost)


def layer_of(name: str) -> str:
    """The layer that a tensor is of, in words; empty for none."""
    found = _LAYERED.search(name)
    return "" if found is None else f"layer {found[1]}"


def _none(
    lab: TargetLab, *defects: Defect, where: Callable[[str], bool] = lambda name: True
) -> Finding:
    """No tensor has one of these defects."""
    found = [d for d in lab.once(diagnosis) if d.defect in defects and where(d.name)]
    judged = sum(where(tensor.name) for tensor in lab.model.portable.tensors)
    if found:
        first = found[0]
        layer = layer_of(first.name)
        more = f"; {len(found) - 1} more tensors alike" if len(found) > 1 else ""
        told = f"{first.told}{f' ({layer})' if layer else ''}{more}"
        return refuted(told, culprit=first.name, details=[d.told for d in found[:20]])
    if not judged:
        return without_meaning("the model has no tensor of the kind")
    return held(f"{judged} tensors without it")


def _is_embedding(name: str) -> bool:
    return bool(_EMBEDDING.search(name))


def _is_norm(name: str) -> bool:
    return bool(_NORM.search(name))


@TENSORS.gate("F-CONV-EMBED-001", "The embedding is not transposed.", severity=_P0)
def embedding_upright(lab: TargetLab) -> Finding:
    """Tokens would be looked up in columns."""
    return _none(lab, Defect.TRANSPOSED, where=_is_embedding)


@TENSORS.gate("F-CONV-TRANSPOSED-001", "No other matrix is transposed.", severity=_P0)
def matrices_upright(lab: TargetLab) -> Finding:
    """Square matrices too: by their values."""
    return _none(lab, Defect.TRANSPOSED, where=lambda name: not _is_embedding(name))


@TENSORS.gate("F-CONV-SHAPE-001", "Every tensor keeps its shape.", severity=_P0)
def shapes_kept(lab: TargetLab) -> Finding:
    """Rows or columns that were cut off or added."""
    return _none(lab, Defect.SHAPE)


@TENSORS.gate("F-CONV-MISSING-001", "No tensor is lost.", severity=_P0)
def none_lost(lab: TargetLab) -> Finding:
    """Biases and tied heads have gates of their own."""
    return _none(lab, Defect.MISSING)


@TENSORS.gate("F-CONV-BIAS-001", "No bias is dropped.", severity=_P0)
def biases_kept(lab: TargetLab) -> Finding:
    """Converters drop biases of projections that most families do not have."""
    return _none(lab, Defect.BIAS, where=lambda name: name.endswith(".bias"))


@TENSORS.gate("F-CONV-TIE-001", "A head of its own is not taken for the embedding.", severity=_P0)
def head_kept(lab: TargetLab) -> Finding:
    """A tied head need not be stored; one that differs must be."""
    return _none(lab, Defect.HEAD)


@TENSORS.gate("F-CONV-SURPLUS-001", "No tensor is added.")
def none_added(lab: TargetLab) -> Finding:
    """But a tied head that a format wants written out."""
    found = [d for d in lab.once(diagnosis) if d.defect is Defect.SURPLUS]
    if found:
        return refuted(found[0].told, culprit=found[0].name)
    return held(f"{len(lab.portable.tensors)} tensors, all of the original")


@TENSORS.gate("F-CONV-NAN-001", "No NaN or infinity is brought in.", severity=_P0)
def stay_finite(lab: TargetLab) -> Finding:
    """Overflows of narrower types, scales of blocks that are no numbers."""
    return _none(lab, Defect.NOT_FINITE)


@TENSORS.gate("F-CONV-ZERO-001", "No tensor is zeroed.", severity=_P0)
def none_zeroed(lab: TargetLab) -> Finding:
    """Memory that was never written to."""
    return _none(lab, Defect.ZEROED)


@TENSORS.gate("F-CONV-NORM-001", "No norm is moved by a constant.", severity=_P0)
def norms_kept(lab: TargetLab) -> Finding:
    """Families that multiply by 1 + weight store the weight here, one more there."""
    return _none(lab, Defect.OFFSET, where=_is_norm)


@TENSORS.gate("F-CONV-OFFSET-001", "No other tensor is moved by a constant.", severity=_P0)
def others_not_moved(lab: TargetLab) -> Finding:
    """A wrong zero point of a quantization."""
    return _none(lab, Defect.OFFSET, where=lambda name: not _is_norm(name))


@TENSORS.gate("F-CONV-SCALE-001", "No tensor is scaled.", severity=_P0)
def none_scaled(lab: TargetLab) -> Finding:
    """A factor that was folded in twice, or not at all."""
    return _none(lab, Defect.SCALED)


@TENSORS.gate("F-CONV-SIGN-001", "No tensor has its sign flipped.", severity=_P0)
def signs_kept(lab: TargetLab) -> Finding:
    """Scales of blocks read as signed."""
    return _none(lab, Defect.SIGN)


@TENSORS.gate("F-CONV-SWAP-001", "No tensor holds the values of another.", severity=_P0)
def none_swapped(lab: TargetLab) -> Finding:
    """Layers exchanged, gate and up projections exchanged, one tensor written twice."""
    return _none(lab, Defect.SWAPPED)


@TENSORS.gate(
    "F-CONV-ROPE-001", "Queries and keys have their rows in the style of their rope.", severity=_P0
)
def rope_order(lab: TargetLab) -> Finding:
    """Halves rotate together in one style, adjacent rows in the other (llama.cpp's permute)."""
    return _none(lab, Defect.ROPE, where=lambda n: ".q_proj." in n or ".k_proj." in n)


@TENSORS.gate("F-CONV-HEADS-001", "No heads are permuted.", severity=_P0)
def heads_in_order(lab: TargetLab) -> Finding:
    """Blocks of rows of queries, keys and values."""
    return _none(lab, Defect.HEADS, where=lambda n: any(f".{r}_proj." in n for r in "qkv"))


@TENSORS.gate("F-CONV-SHIFT-001", "No tensor has its rows shifted.", severity=_P0)
def rows_in_place(lab: TargetLab) -> Finding:
    """Off by one."""
    return _none(lab, Defect.SHIFTED)


@TENSORS.gate("F-CONV-ROWS-001", "No tensor has rows permuted otherwise.", severity=_P0)
def rows_in_order(lab: TargetLab) -> Finding:
    """Tokens, neurons or outputs in another order."""
    return _none(lab, Defect.ROWS)


@TENSORS.gate("F-CONV-COLUMNS-001", "No tensor has columns permuted.", severity=_P0)
def columns_in_order(lab: TargetLab) -> Finding:
    """Inputs in another order than the layer before gives them."""
    return _none(lab, Defect.COLUMNS)


@TENSORS.gate("F-CONV-PARTZERO-001", "No rows or columns are zeroed.", severity=_P0)
def no_part_zeroed(lab: TargetLab) -> Finding:
    """A head or a block that was never written."""
    return _none(lab, Defect.PART_ZEROED)


@TENSORS.gate("F-CONV-PART-001", "No tensor is damaged in part.", severity=_P0)
def no_part_damaged(lab: TargetLab) -> Finding:
    """Some rows hold other values; the others are right."""
    return _none(lab, Defect.PART)


@TENSORS.gate("F-CONV-WEIGHT-001", "No tensor holds other values throughout.", severity=_P0)
def none_corrupted(lab: TargetLab) -> Finding:
    """What no other gate explains: noise, or too coarse an encoding."""
    return _none(lab, Defect.NOISE)


_REFERENCE = "differential_tests"


def reference_diagnosis(lab: ModelLab) -> tuple[Diagnosis, ...] | None:
    """The ground truth's tensors against those of the reference that the playbook names.

    None where it names none. Another float type of the same weights is no difference: the limit is
    bfloat16's rounding, the coarsest of the three.
    """
    from pytest_aprqa.conversion.reading import read_portable
    from pytest_aprqa.domain.model import Quantization

    named = lab.sections.differential_tests.reference
    if named is None:
        return None
    reference = read_portable(lab.beside(named))
    return diagnose(reference, lab.portable, cost_of(Quantization.BF16, by_apr=False))


REFERENCE: Family[ModelLab] = Family(
    domain="reference", place=Place.MODEL, cost=Cost.WEIGHTS, rung=Rung.TENSOR
)
_CLASSES = {
    "moved": (Defect.TRANSPOSED, Defect.ROPE, Defect.HEADS, Defect.SHIFTED, Defect.ROWS,
              Defect.COLUMNS, Defect.SWAPPED),
    "changed": (Defect.SCALED, Defect.SIGN, Defect.OFFSET),
    "damaged": (Defect.NOISE, Defect.PART, Defect.PART_ZEROED, Defect.ZEROED, Defect.NOT_FINITE),
    "lost": (Defect.MISSING, Defect.BIAS, Defect.HEAD, Defect.SURPLUS, Defect.SHAPE),
}  # fmt: skip


def _as_reference(lab: ModelLab, kind: str) -> Finding:
    found = lab.once(reference_diagnosis)
    if found is None:
        return without_meaning("differential_tests.reference names no other copy of the model")
    wrong = [d for d in found if d.defect in _CLASSES[kind]]
    if wrong:
        more = f"; {len(wrong) - 1} more tensors" if len(wrong) > 1 else ""
        return refuted(f"against the reference, {wrong[0].told}{more}", culprit=wrong[0].name)
    return held(f"{len(lab.portable.tensors)} tensors, none {kind}")


@REFERENCE.gate(
    "F-REF-LOST-001", "The model has the tensors of the reference, in their shapes.", severity=_P0
)
def as_complete(lab: ModelLab) -> Finding:
    """None missing, none added, none cut."""
    return _as_reference(lab, "lost")


@REFERENCE.gate(
    "F-REF-MOVED-001", "No tensor's values are moved against the reference.", severity=_P0
)
def in_their_places(lab: ModelLab) -> Finding:
    """Transposed, permuted, shifted, exchanged."""
    return _as_reference(lab, "moved")


@REFERENCE.gate("F-REF-CHANGED-001", "No tensor is scaled or moved by a constant.", severity=_P0)
def unchanged(lab: ModelLab) -> Finding:
    """Down to two in a thousand."""
    return _as_reference(lab, "changed")


@REFERENCE.gate(
    "F-REF-DAMAGED-001", "No tensor holds other values than the reference's.", severity=_P0
)
def undamaged(lab: ModelLab) -> Finding:
    """Noise, flipped bits, rows of zeros."""
    return _as_reference(lab, "damaged")


FAMILIES = (TENSORS, REFERENCE)
ALIASES = {
    "F-CONV-TRANSPOSE": "F-CONV-TRANSPOSED-001",
    "F-CONV-TNAME-001": "F-CONV-MISSING-001",
    "F-CONV-004": "F-CONV-MISSING-001",
    "F-CONV-008": "F-CONV-NAN-001",
    "F-CONV-DEQUANT-001": "F-CONV-NAN-001",
    "F-CONV-UNKNOWN-001": "F-CONV-WEIGHT-001",
    "F-CONV-CARD-001": "F-CONV-MISSING-001",
    "F-CONV-NAME-001": "F-CONV-MISSING-001",
}
