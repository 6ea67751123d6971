"""Gates over the values that a GGUF or APR target's tensors decode to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.file_hyperparameters import hyperparameters
from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity
from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS, CheckpointError
from pytest_aprqa.formats.encodings import ENCODINGS

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.formats.tensor import Tensor

TARGET_VALUES: Family[TargetLab] = Family(
    domain="target-values",
    place=Place.TARGET,
    cost=Cost.WEIGHTS,
    rung=Rung.TENSOR,
    formats=frozenset({Format.GGUF, Format.APR}),
)
_P0 = Severity.P0
BLOCK = 32
"""Values that share a scale in the smallest of the formats' blocks."""
FILLED = 0.25
"""Root mean square of a block, of its tensor's, from which it must not become zeros: a block's
own scale never does that, a whole tensor's only where that is far from its usual values."""
BEYOND = 1.5
"""Times the original's largest magnitude that a decoded value may be: quantizers that search for a
scale overshoot by a few hundredths."""
_MAY_BE_ZERO = re.compile(r"(^|[._])bias$")


@dataclass(frozen=True, slots=True)
class Decoded:
    """One tensor of the file, decoded."""

    name: str
    encoding: str
    values: int
    not_finite: int
    zeros: int


def decoded(lab: TargetLab) -> tuple[Decoded, ...]:
    """Every tensor of the file that holds numbers and can be decoded, piece by piece."""
    import numpy as np

    checkpoint, found = lab.checkpoint, []
    for info in checkpoint.tensors.values():
        encoding = ENCODINGS.get(info.dtype)
        if encoding is None or (info.dtype[0] == "I" and encoding.plain):
            continue
        values = bad = zeros = 0
        try:
            for chunk in checkpoint.float32_chunks(info.name):
                values += int(chunk.size)
                bad += int(chunk.size - np.isfinite(chunk).sum())
                zeros += int(chunk.size - np.count_nonzero(chunk))
        except CheckpointError:
            continue  # an encoding without a decoder: no fault of the file
        finally:
            checkpoint.release(info.name)
        found.append(Decoded(info.name, info.dtype, values, bad, zeros))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Kept:
    """One matrix of the target beside the ground truth's, by Hugging Face's name."""

    name: str
    blocks: int
    emptied: int
    """Blocks of zeros where the original's are well filled."""
    largest: float
    """Largest finite magnitude."""
    original: float
    """The original's largest magnitude."""


def kept(lab: TargetLab) -> tuple[Kept, ...] | str:
    """Every matrix that both have in one shape, two in memory at a time; or why there is none."""
    try:
        originals = {tensor.name: tensor for tensor in lab.model.portable.tensors}
        mine = lab.portable.tensors
    except ConversionError as error:
        return str(error)
    pairs = ((t, originals[t.name]) for t in mine if t.name in originals)
    return tuple(_kept(t, o) for t, o in pairs if len(t.shape) >= 2 and t.shape == o.shape)


def _kept(tensor: Tensor, original: Tensor) -> Kept:
    import numpy as np

    width = tensor.shape[-1]
    ours, theirs = tensor.values().reshape(-1, width), original.values().reshape(-1, width)
    tensor.done()
    original.done()
    step = max(1, CHUNK_ELEMENTS // max(width, 1))  # rows whose squares are in memory at a time
    pieces = [slice(start, start + step) for start in range(0, len(ours), step)]
    square = sum(float(np.square(theirs[p], dtype=np.float64).sum()) for p in pieces)
    filled = FILLED**2 * square / max(theirs.size, 1)
    blocks = emptied = 0
    largest = highest = 0.0
    for piece in pieces:
        mine, its = _blocks(ours[piece]), _blocks(theirs[piece])
        empty = ~mine.any(axis=1)
        blocks += len(mine)
        emptied += int((empty & (np.square(its).mean(axis=1) >= filled)).sum()) if filled else 0
        size = np.abs(ours[piece])
        largest = max(largest, float(size[np.isfinite(size)].max(initial=0)))
        highest = max(highest, float(np.abs(theirs[piece]).max(initial=0)))
    return Kept(tensor.name, blocks, emptied, largest, highest)


def _blocks(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One line for each block; what a row has beyond whole blocks is left out."""
    width = rows.shape[-1] // BLOCK * BLOCK
    return rows[:, :width].reshape(-1, BLOCK)


@TARGET_VALUES.gate("F-VALIDATE-NAN-001", "Every value decodes to a finite number.", severity=_P0)
def all_finite(lab: TargetLab) -> Finding:
    """A scale that is no number makes 32 or 256 values none."""
    found = lab.once(decoded)
    for tensor in found:
        if tensor.not_finite:
            return refuted(
                f"{tensor.name} ({tensor.encoding}) decodes to {tensor.not_finite} values that are "
                f"not finite, of {tensor.values}",
                culprit=tensor.name,
            )
    return held(f"{len(found)} tensors finite") if found else undecided("no tensor can be decoded")


@TARGET_VALUES.gate("F-VALIDATE-ZERO-001", "No tensor decodes to zeros throughout.", severity=_P0)
def none_empty(lab: TargetLab) -> Finding:
    """Biases may be zero, and so may a single number."""
    judged = [t for t in lab.once(decoded) if t.values > 1 and not _MAY_BE_ZERO.search(t.name)]
    for tensor in judged:
        if tensor.zeros == tensor.values:
            return refuted(
                f"{tensor.name} ({tensor.encoding}) is zero in all its {tensor.values} values",
                culprit=tensor.name,
            )
    return held(f"{len(judged)} tensors filled") if judged else undecided("none can be decoded")


def _matrices(lab: TargetLab) -> tuple[Kept, ...] | Finding:
    """The matrices compared, or why there are none."""
    found = lab.once(kept)
    if isinstance(found, str):
        return without_meaning(f"tensors cannot be told apart by their roles: {found}")
    if not found:
        return undecided("no matrix is in the target and in the ground truth in one shape")
    return found


@TARGET_VALUES.gate(
    "F-VALIDATE-BLOCK-001", "No block is zero where the original's is not.", severity=_P0
)
def no_block_lost(lab: TargetLab) -> Finding:
    """A scale of zero, or pages that were never written."""
    found = _matrices(lab)
    if isinstance(found, Finding):
        return found
    for matrix in found:
        if matrix.emptied:
            return refuted(
                f"{matrix.name} has {matrix.emptied} of {matrix.blocks} blocks of {BLOCK} zeros "
                f"where the original has values",
                culprit=matrix.name,
                measured={"blocks": float(matrix.emptied)},
            )
    return held(f"{sum(m.blocks for m in found)} blocks of {len(found)} matrices kept")


@TARGET_VALUES.gate(
    "F-VALIDATE-RANGE-001", "No value is far beyond the original's largest.", severity=_P0
)
def range_is_kept(lab: TargetLab) -> Finding:
    """A scale that is damaged upwards."""
    found = _matrices(lab)
    if isinstance(found, Finding):
        return found
    worst = 0.0
    for matrix in found:
        times = matrix.largest / matrix.original if matrix.original else 0.0
        worst = max(worst, times)
        if times > BEYOND:
            return refuted(
                f"{matrix.name} decodes to values of up to {matrix.largest:.4g}; the original's "
                f"largest is {matrix.original:.4g}, expected at most {BEYOND:g} times that",
                culprit=matrix.name,
                measured={"times the largest": times},
            )
    return held(
        f"{len(found)} matrices, at most {worst:.3f} times the originals' largest values",
        measured={"times the largest": worst},
    )


@TARGET_VALUES.gate(
    "F-INSPECT-META-001", "The file states no size of zero.", cost=Cost.HEADERS, severity=_P0
)
def sizes_are_positive(lab: TargetLab) -> Finding:
    """Tensors, layers, heads and widths, as far as they are stated."""
    count = len(lab.checkpoint.tensors)
    if count == 0:
        return refuted(f"{lab.file.name} holds no tensor; expected a model", culprit=lab.file.name)
    stated = hyperparameters(lab.format, lab.checkpoint.metadata)
    names = ("layers", "hidden_size", "attention_heads", "key_value_heads", "vocabulary_size")
    judged = {name: stated[name] for name in names if name in stated}
    for name, value in judged.items():
        values = value if isinstance(value, list) else [value]
        if not any(type(number) is int and number > 0 for number in values):
            return refuted(f"the file states {name} {value!r:.40}; expected more", culprit=name)
    if not judged:
        return without_meaning("the file states no size under a name that is known")
    return held(f"{count} tensors, {len(judged)} sizes above zero")


FAMILIES = (TARGET_VALUES,)
