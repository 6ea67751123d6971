"""Gates over the values of the ground truth's weights, all from one reading of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pytest_aprqa.formats.checkpoint import Checkpoint, TensorInfo

VALUES: Family[ModelLab] = Family(
    domain="density", place=Place.MODEL, cost=Cost.WEIGHTS, rung=Rung.TENSOR
)
MOSTLY = 0.5
"""Share of zeros from which a matrix is mostly zero."""
DEAD = 0.2
"""Share of rows or columns of zeros that a projection may have: pruned neurons are few."""
FAR = 100.0
"""Largest magnitude of a tensor's mean: weights lie around zero, norms around one (the limit of the
catalogue of cross-project bug patterns, F-VALID-POST-001)."""
_EMBEDDING = re.compile(r"(embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_MAY_BE_ZERO = re.compile(r"(^|[._])bias$")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Weights:
    """One tensor's values, counted."""

    name: str
    shape: tuple[int, ...]
    values: int
    nan: int
    inf: int
    zeros: int
    minimum: float
    maximum: float
    mean: float
    """Of the finite values; 0 where there is none."""
    square: float
    """Mean of the squares of the finite values; 0 where there is none."""
    zero_rows: int
    zero_columns: int
    digest: str
    """Of the stored bytes, the encoding and the shape."""

    @property
    def is_matrix(self) -> bool:
        """Whether it has rows and columns, more than one of each."""
        return len(self.shape) >= 2 and min(self.shape[-1], self.values // self.shape[-1]) > 1


def weights(lab: ModelLab) -> tuple[Weights, ...]:
    """Every tensor of the model, in the order of its files."""
    checkpoint = lab.checkpoint
    return tuple(_counted(checkpoint, info) for info in checkpoint.tensors.values())


def _counted(checkpoint: Checkpoint, info: TensorInfo) -> Weights:
    import numpy as np

    digest = hashlib.sha256(f"{info.dtype} {info.shape}".encode())
    stored = checkpoint.bytes_of(info.name)
    for start in range(0, stored.size, _PIECE):
        digest.update(stored[start : start + _PIECE].data)
    width = info.shape[-1] if len(info.shape) >= 2 else 0
    counts = _Counts(width, np.zeros(width, bool))
    for chunk in checkpoint.float32_chunks(info.name):
        counts.add(chunk)
    checkpoint.release(info.name)
    rows, columns = counts.dead()
    total = 1
    for part in info.shape:
        total *= part
    return Weights(
        name=info.name,
        shape=info.shape,
        values=total,
        nan=counts.nan,
        inf=counts.inf,
        zeros=counts.zeros,
        minimum=counts.minimum,
        maximum=counts.maximum,
        mean=counts.total / counts.finite if counts.finite else 0.0,
        square=counts.squares / counts.finite if counts.finite else 0.0,
        zero_rows=rows,
        zero_columns=columns,
        digest=digest.hexdigest(),
    )


class _Counts:
    """Sums over a tensor's pieces, which need not end where its rows do."""

    def __init__(self, width: int, touched: np.ndarray[Any, Any]) -> None:
        self.nan = self.inf = self.zeros = self.finite = 0
        self.minimum, self.maximum = float("inf"), float("-inf")
        self.total = self.squares = 0.0
        self._width, self._touched = width, touched
        self._rows, self._live, self._open, self._at = 0, 0, False, 0

    def add(self, chunk: np.ndarray[Any, Any]) -> None:
        import numpy as np

        good = np.isfinite(chunk)
        self.nan += int(np.isnan(chunk).sum())
        self.inf += int(np.isinf(chunk).sum())
        self.zeros += int((chunk == 0).sum())
        finite = chunk if good.all() else chunk[good]
        self.finite += int(finite.size)
        if finite.size:
            self.minimum = min(self.minimum, float(finite.min()))
            self.maximum = max(self.maximum, float(finite.max()))
            self.total += float(finite.sum(dtype=np.float64))
            self.squares += float(np.square(finite, dtype=np.float64).sum())
        if self._width:
            self._see_rows(chunk != 0)

    def _see_rows(self, live: np.ndarray[Any, Any]) -> None:
        width, start = self._width, 0
        if self._at:
            take = min(width - self._at, live.size)
            self._touched[self._at : self._at + take] |= live[:take]
            self._open = self._open or bool(live[:take].any())
            self._at, start = (self._at + take) % width, take
            if self._at == 0:
                self._close(self._open)
        whole = (live.size - start) // width
        block = live[start : start + whole * width].reshape(whole, width)
        if whole:
            self._touched |= block.any(axis=0)
            self._rows += whole
            self._live += int(block.any(axis=1).sum())
        rest = live[start + whole * width :]
        if rest.size:
            self._touched[: rest.size] |= rest
            self._open, self._at = bool(rest.any()), int(rest.size)

    def _close(self, live: bool) -> None:
        self._rows, self._live, self._open = self._rows + 1, self._live + live, False

    def dead(self) -> tuple[int, int]:
        """Rows and columns in which every value is zero."""
        return self._rows - self._live, int(self._touched.size - self._touched.sum())


def _none_where(
    lab: ModelLab,
    wrong: Callable[[Weights], str | None],
    healthy: str,
    *,
    of: Callable[[Weights], bool] = lambda found: True,
) -> Finding:
    """Refuted by the first tensor of which `wrong` says something."""
    judged = [found for found in lab.once(weights) if of(found)]
    if not judged:
        return without_meaning("the model has no tensor of the kind")
    told = [(found, text) for found in judged if (text := wrong(found)) is not None]
    if told:
        first, text = told[0]
        more = f" ({len(told) - 1} more tensors)" if len(told) > 1 else ""
        return refuted(f"{first.name} {text}{more}", culprit=first.name)
    return held(f"{len(judged)} tensors {healthy}")


@VALUES.gate(
    "F-INT-003", "No weight is NaN.", severity=Severity.P0, source="IEEE 754: NaN spreads to all"
)
def no_nan(lab: ModelLab) -> Finding:
    """A single NaN makes every logit NaN."""
    return _none_where(
        lab,
        lambda w: f"has {w.nan} NaN among {w.values} values; expected none" if w.nan else None,
        "without NaN",
    )


@VALUES.gate("F-DENSITY-INF-001", "No weight is infinite.", severity=Severity.P0)
def no_infinity(lab: ModelLab) -> Finding:
    """An overflow on the way to a narrower type leaves infinities."""
    return _none_where(
        lab,
        lambda w: f"has {w.inf} infinities among {w.values}; expected none" if w.inf else None,
        "without infinities",
    )


@VALUES.gate("F-DENSITY-ZERO-001", "No tensor is zero throughout.", severity=Severity.P0)
def no_empty_tensor(lab: ModelLab) -> Finding:
    """Biases may be: training may never have moved them. One number may be zero, too."""
    return _none_where(
        lab,
        lambda w: f"is zero in all its {w.values} values" if w.zeros == w.values else None,
        "with values other than zero",
        of=lambda w: w.values > 1 and not _MAY_BE_ZERO.search(w.name),
    )


@VALUES.gate("F-DENSITY-CONST-001", "No matrix holds one value throughout.", severity=Severity.P0)
def no_constant_matrix(lab: ModelLab) -> Finding:
    """Vectors of one value are fresh norms, and zeros have a gate of their own."""
    return _none_where(
        lab,
        lambda w: (
            f"holds {w.minimum:g} in all its {w.values} values"
            if w.minimum == w.maximum != 0
            else None
        ),
        "hold more than one value",
        of=lambda w: w.is_matrix and w.nan == w.inf == 0,
    )


@VALUES.gate("F-DENSITY-DUP-001", "No two matrices are equal byte for byte.")
def no_duplicate(lab: ModelLab) -> Finding:
    """Beside tied embeddings, which are one tensor under two names."""
    seen: dict[str, str] = {}
    judged = [w for w in lab.once(weights) if w.is_matrix and w.zeros < w.values]
    tied = re.compile(r"(lm_head|embed_out|output)\.weight$")
    for found in (w for w in judged if w.minimum != w.maximum):
        first = seen.setdefault(found.digest, found.name)
        pair = (first, found.name)
        if first != found.name and not any(
            tied.search(a) and _EMBEDDING.search(b) for a, b in (pair, pair[::-1])
        ):
            return refuted(
                f"{found.name} is {first} byte for byte; expected weights of its own",
                culprit=found.name,
            )
    return held(f"{len(judged)} matrices, each its own") if judged else without_meaning("no matrix")


@VALUES.gate("F-DENSITY-EMBED-001", "The token embedding is not mostly rows of zeros.")
def embedding_is_filled(lab: ModelLab) -> Finding:
    """Rows of tokens that no text has may be zero; half of them is a loading that stopped."""
    return _none_where(
        lab,
        lambda w: (
            f"has {w.zero_rows} of {w.shape[0]} rows of zeros; expected at most half"
            if w.zeros < w.values and w.zero_rows > MOSTLY * w.shape[0]
            else None
        ),
        "with a row for most tokens",
        of=lambda w: bool(_EMBEDDING.search(w.name)),
    )


@VALUES.gate("F-DENSITY-ROW-001", "No projection has many rows of zeros.")
def rows_live(lab: ModelLab) -> Finding:
    """A row of zeros is an output that is always zero, or a head that was dropped."""
    return _none_where(
        lab,
        lambda w: (
            f"has {w.zero_rows} of {w.values // w.shape[-1]} rows of zeros; expected at most "
            f"{DEAD:.0%}"
            if w.zeros < w.values and w.zero_rows > DEAD * (w.values // w.shape[-1])
            else None
        ),
        "with live rows",
        of=lambda w: w.is_matrix and not _EMBEDDING.search(w.name),
    )


@VALUES.gate("F-DENSITY-COLUMN-001", "No matrix has many columns of zeros.")
def columns_live(lab: ModelLab) -> Finding:
    """A column of zeros is an input that is never looked at."""
    return _none_where(
        lab,
        lambda w: (
            f"has {w.zero_columns} of {w.shape[-1]} columns of zeros; expected at most {DEAD:.0%}"
            if w.zeros < w.values and w.zero_columns > DEAD * w.shape[-1]
            else None
        ),
        "with live columns",
        of=lambda w: w.is_matrix,
    )


@VALUES.gate("F-DENSITY-SPARSE-001", "No matrix is mostly scattered zeros where others are dense.")
def dense_alike(lab: ModelLab) -> Finding:
    """A model that was pruned as a whole is sparse throughout, and that is no defect."""
    judged = [w for w in lab.once(weights) if w.is_matrix and w.zeros < w.values]
    sparse = [
        w for w in judged if w.zeros > MOSTLY * w.values and max(w.zero_rows, w.zero_columns) == 0
    ]
    if not judged or len(sparse) > len(judged) // 2:
        return without_meaning("the whole model is sparse" if judged else "no matrix")
    if sparse:
        first = sparse[0]
        return refuted(
            f"{first.name} is zero in {first.zeros} of {first.values} values, where "
            f"{len(judged) - len(sparse)} of {len(judged)} matrices are dense",
            culprit=first.name,
        )
    return held(f"{len(judged)} matrices, none mostly zeros")


@VALUES.gate("F-VALID-POST-001", "No tensor's values lie far from zero on average.")
def means_are_near(lab: ModelLab) -> Finding:
    """What is left of a wrong type or scale after a transformation."""
    return _none_where(
        lab,
        lambda w: (
            f"has a mean of {w.mean:.4g}; expected at most {FAR:g} in magnitude"
            if abs(w.mean) >= FAR
            else None
        ),
        f"with means below {FAR:g}",
        of=lambda w: w.values > 1,
    )


@VALUES.gate("F-DENSITY-EMPTY-001", "No tensor is without values.", severity=Severity.P0)
def no_tensor_of_nothing(lab: ModelLab) -> Finding:
    """A dimension of zero, which loaders take for what it is: nothing."""
    return _none_where(
        lab,
        lambda w: f"has the shape {list(w.shape)}: no values" if w.values == 0 else None,
        "with values",
    )


FAMILIES = (VALUES,)
