"""Values of any format's tensors: NaN, infinity, all zeros, one constant, embedding rows of zeros.

Quantized tensors are judged by what they decode to: a NaN scale is 32 or 256 NaN values.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import ENCODINGS

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    import numpy as np

    from pytest_aprqa.formats.checkpoint import Checkpoint, TensorInfo

# Masks and positions: whole numbers are no weights. F64 is read as float32, which is fine here.
_NO_WEIGHTS = (
    *("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"),
    *("BOOL", "C64", "F8_E8M0"),
)
# A bias that training never moved from its initial zero is legal (GPT-2, Qwen2, MoE corrections).
_MAY_BE_ZERO = re.compile(r"(^|[._])bias$")
# Norms begin as ones, biases as zeros, rotary factors may all be 1 (Phi-3's short factors).
_MAY_BE_CONSTANT = re.compile(r"norm|(^|[._])ln_|bias|rope_f|inv_freq|scalar")
_HAS_TOKEN_ROWS = re.compile(
    r"(embed_tokens|wte|word_embeddings|tok_embeddings|token_embd|lm_head)\.weight$"
    r"|^output\.weight$"
)


def value_findings(
    checkpoint: Checkpoint, *, ordinary: Container[int] | None
) -> tuple[list[IntegrityFinding], list[str]]:
    """What is wrong with the values of every tensor, and what could not be judged.

    `ordinary` holds the ids of tokens that are neither special nor padding: their rows must not
    be all zeros. None when the tokens are not known.
    """
    findings: list[IntegrityFinding] = []
    skipped: dict[str, list[str]] = {}
    for name, info in checkpoint.tensors.items():
        if info.dtype not in ENCODINGS or info.dtype in _NO_WEIGHTS:
            skipped.setdefault(info.dtype, []).append("")
            continue
        try:
            found = _one(checkpoint, info, ordinary if _has_token_rows(info) else None)
        except CheckpointError as error:  # an encoding without a decoder: no fault of the file
            skipped.setdefault(info.dtype, []).append(f": {error}")
            continue
        finally:
            checkpoint.release(name)
        if found is not None:
            findings.append(found)
    notes = [f"values of {len(why)} {dtype} tensors{why[0]}" for dtype, why in skipped.items()]
    if ordinary is None and any(map(_has_token_rows, checkpoint.tensors.values())):
        notes.append("rows of zeros in the embedding: which tokens are special is not known")
    return findings, notes


def _has_token_rows(info: TensorInfo) -> bool:
    return len(info.shape) == 2 and _HAS_TOKEN_ROWS.search(info.name) is not None


def _one(
    checkpoint: Checkpoint, info: TensorInfo, ordinary: Container[int] | None
) -> IntegrityFinding | None:
    """The gravest thing that is wrong with one tensor's values."""
    count = math.prod(info.shape)
    if not count:
        return None
    seen = _Seen(info.shape[-1] if info.shape and ordinary is not None else None)
    for values in checkpoint.float32_chunks(info.name):
        seen.add(values)
    if seen.not_finite:
        return IntegrityFinding("not-finite", info.name, _not_finite(info, seen, count))
    name, what = f"{info.file.name}: {info.name}", f"{count} values ({info.dtype})"
    # One number may well be zero or one: a gate or a scale that training left off.
    if count > 1 and seen.largest == seen.smallest == 0 and not _MAY_BE_ZERO.search(info.name):
        text = f"{name} is zero in all its {what}; expected trained values"
        return IntegrityFinding("all-zero", info.name, text)
    if count > 1 and seen.largest == seen.smallest and not _MAY_BE_CONSTANT.search(info.name):
        text = f"{name} is {seen.largest:g} in all its {what}; expected trained values"
        return IntegrityFinding("constant", info.name, text)
    if ordinary is not None:
        dead = [row for row in seen.dead_rows() if row in ordinary]
        if dead:
            shown = ", ".join(map(str, dead[:5]))
            text = (
                f"{name} has only zeros in {len(dead)} rows of ordinary tokens ({shown}); "
                f"expected trained values in each"
            )
            return IntegrityFinding("dead-row", info.name, text)
    return None


def _not_finite(info: TensorInfo, seen: _Seen, count: int) -> str:
    import numpy as np

    index = [int(part) for part in np.unravel_index(seen.first, info.shape)]
    return (
        f"{info.file.name}: {info.name} has {seen.kind} at {index}, the first of "
        f"{seen.not_finite} not finite among {count} values ({info.dtype}); expected finite values"
    )


class _Seen:
    """What one pass over a tensor's values tells; `columns` where its rows are of interest."""

    def __init__(self, columns: int | None) -> None:
        self.smallest, self.largest = math.inf, -math.inf
        self.not_finite, self.first, self.kind = 0, -1, ""
        self._columns, self._count = columns, 0
        self._alive: list[np.ndarray[Any, Any]] = []

    def add(self, values: np.ndarray[Any, Any]) -> None:
        """Take in one flat piece."""
        import numpy as np

        # A NaN makes both of these NaN: two passes in the healthy case, not three.
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            places = np.flatnonzero(~np.isfinite(values))
            if not self.not_finite:
                place = int(places[0])
                self.first = self._count + place
                self.kind = "NaN" if np.isnan(values[place]) else f"{values[place]:+g}".upper()
                self.kind = {"+INF": "Inf", "-INF": "-Inf"}.get(self.kind, self.kind)
            self.not_finite += places.size
        self.smallest, self.largest = min(self.smallest, low), max(self.largest, high)
        if self._columns is not None:
            row, past = divmod(self._count, self._columns)
            starts = np.arange(-past, values.size, self._columns)
            some = np.logical_or.reduceat(values != 0, np.maximum(starts, 0))
            self._alive.append(row + np.flatnonzero(some))
        self._count += values.size

    def dead_rows(self) -> Iterator[int]:
        """Rows without a value other than zero."""
        import numpy as np

        assert self._columns is not None
        alive = np.zeros(self._count // self._columns, bool)
        for rows in self._alive:
            alive[rows] = True
        yield from map(int, np.flatnonzero(~alive))
