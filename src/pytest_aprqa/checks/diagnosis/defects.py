"""The kinds of defect that a tensor or setting can have, and one found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Defect(StrEnum):
    """What became of a tensor, in the order in which the hypotheses are tried."""

    MISSING = "missing"
    BIAS = "bias dropped"
    HEAD = "head lost"
    """An output head of its own that was left out, as if it were tied to the embedding."""
    SURPLUS = "surplus"
    TRANSPOSED = "transposed"
    SHAPE = "another shape"
    NOT_FINITE = "not finite"
    ZEROED = "zeroed"
    OFFSET = "moved by a constant"
    SIGN = "sign flipped"
    SCALED = "scaled"
    SWAPPED = "another tensor's values"
    ROPE = "rows in the order of the other rope style"
    HEADS = "heads permuted"
    SHIFTED = "rows shifted"
    ROWS = "rows permuted"
    COLUMNS = "columns permuted"
    PART_ZEROED = "zeroed in part"
    PART = "damaged in part"
    NOISE = "other values"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One tensor that is not what it was, and what most likely happened to it."""

    name: str
    defect: Defect
    told: str
    """In words, beginning with the tensor's name."""
    nmse: float = float("nan")
    """Mean squared error over the original's mean square, where values could be compared."""
