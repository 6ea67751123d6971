"""Diagnose every tensor of a derived model against its original's, one pair in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.diagnosis.defects import Defect, Diagnosis
from pytest_aprqa.checks.diagnosis.values import Heads, explain, near, partly, relative
from pytest_aprqa.checks.integrity_config import Numbers
from pytest_aprqa.domain.tolerance import APR_STEPS, GAIN, WEIGHT_NMSE

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.conversion.portable import PortableModel
    from pytest_aprqa.domain.model import Quantization
    from pytest_aprqa.formats.tensor import Tensor

    Array = np.ndarray[Any, Any]

_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_EMBEDDING = re.compile(r"(embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_SEVERAL = 6
"""Tensors with one defect from which it is told once, with their number."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an encoding may cost: relative squared error of matrices; vectors are kept."""

    nmse: float
    steps: int | None = None
    """APR's own encodings round to this many steps of the largest value instead."""

    def of(self, values: Array) -> float:
        """The limit for one tensor's values."""
        import numpy as np

        if values.ndim < 2:
            return 1e-5
        if self.steps is None:
            return self.nmse
        power = float(np.square(values, dtype=np.float64).mean())
        largest = float(np.abs(values).max()) if values.size else 0.0
        rounding = (largest / self.steps / 2) ** 2
        return max(self.nmse, rounding / power if power else 0.0)


def cost_of(quantization: Quantization | None, *, by_apr: bool) -> Cost:
    """What a quantization may cost a matrix; None: nothing."""
    if quantization is None:
        return Cost(0.0)
    steps = APR_STEPS.get(quantization) if by_apr else None
    return Cost(WEIGHT_NMSE[quantization], steps)


def diagnose(original: PortableModel, derived: PortableModel, cost: Cost) -> tuple[Diagnosis, ...]:
    """Every tensor of the derived model that is not its original within the cost, in order.

    Raises:
        CheckpointError, ConversionError: a tensor cannot be read.
    """
    ours = {tensor.name: tensor for tensor in original.tensors}
    theirs = {tensor.name: tensor for tensor in derived.tensors}
    found = [
        *_lost(ours, theirs, original.config),
        *(
            Diagnosis(name, Defect.SURPLUS, f"{name} is no tensor of the original")
            for name in theirs
            if name not in ours and not _is_tied_copy(name, ours, theirs)
        ),
    ]
    heads = _heads(original.config)
    for name, tensor in ours.items():
        if name in theirs:
            diagnosis = _pair(tensor, theirs[name], cost, heads(name), ours)
            found += [] if diagnosis is None else [diagnosis]
    return tuple(found)


def _lost(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], config: Mapping[str, Any]
) -> Iterator[Diagnosis]:
    for name, tensor in ours.items():
        if name in theirs:
            continue
        if _HEAD.search(name):
            embedding = next((t for n, t in ours.items() if _EMBEDDING.search(n)), None)
            if embedding is not None and near(embedding.values(), tensor.values(), 0.0):
                continue  # one tensor under two names
            told = f"{name} is left out, as if it were the embedding, from which it differs"
            yield Diagnosis(name, Defect.HEAD, told)
        elif name.endswith(".bias"):
            yield Diagnosis(name, Defect.BIAS, f"{name} is dropped")
        else:
            yield Diagnosis(name, Defect.MISSING, f"{name} is missing")


def _is_tied_copy(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether a head was written out that the original ties to its embedding."""
    embedding = next((t for n, t in ours.items() if _EMBEDDING.search(n)), None)
    if not _HEAD.search(name) or embedding is None:
        return False
    return near(embedding.values(), theirs[name].values(), 0.25)


def _heads(config: Mapping[str, Any]) -> Any:
    """How each tensor's rows are cut into heads, by its name."""
    numbers = Numbers.from_config(config).values
    count, hidden = numbers.get("num_attention_heads"), numbers.get("hidden_size")
    groups = numbers.get("num_key_value_heads") or count
    size = numbers.get("head_dim") or (hidden // count if hidden and count else None)

    def of(name: str) -> Heads | None:
        if not size or not count or not groups:
            return None
        if ".q_proj." in name:
            return Heads(count, size)
        return Heads(groups, size) if ".k_proj." in name or ".v_proj." in name else None

    return of


def _pair(
    a: Tensor, b: Tensor, cost: Cost, heads: Heads | None, ours: Mapping[str, Tensor]
) -> Diagnosis | None:
    try:
        one, two = a.values(), b.values()
    finally:
        a.done()
        b.done()
    limit = cost.of(one)
    if one.shape == two.shape and _same(one, two, limit):
        return None
    found = explain(one, two, limit=limit, heads=heads)
    if found is None and one.shape != two.shape:
        found = Defect.SHAPE, f"has shape {list(two.shape)}; expected {list(one.shape)}"
    if found is None and (other := _twin(a.name, two, cost, ours)) is not None:
        found = Defect.SWAPPED, f"holds the values of {other}"
    if found is None:
        found = partly(one, two, limit)
    error = relative(one, two) if one.shape == two.shape else float("nan")
    return Diagnosis(a.name, found[0], f"{a.name} {found[1]}", error)


def _same(a: Array, b: Array, limit: float) -> bool:
    """Equal within the limit, and no larger or smaller as a whole."""
    import numpy as np

    if bool((a == b).all()):
        return True
    if limit <= 1e-5:  # not quantized: norms that are kept as 1 + w lose their last bit
        return bool(np.allclose(a, b, rtol=1e-5, atol=2.0**-21))
    power = float(np.square(a, dtype=np.float64).sum())
    gain = float((a.astype(np.float64) * b).sum()) / power if power else 1.0
    return relative(a, b) <= limit and abs(gain - 1) <= GAIN


def _twin(name: str, values: Array, cost: Cost, ours: Mapping[str, Tensor]) -> str | None:
    """The other tensor of the original whose values these are."""
    for other, tensor in ours.items():
        if other == name or tensor.shape != values.shape or values.ndim == 0:
            continue
        try:
            theirs = tensor.values()
        finally:
            tensor.done()
        if theirs.any() and near(theirs, values, cost.of(theirs)):
            return other
    return None
