"""The inside of a target's pass against the ground truth's: the first layer where they part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import SECTION, TRACED, looked_into, prompt_ids
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.domain.tolerance import LAYERS_BY_QUANTIZATION, LayerTolerance
from pytest_aprqa.domain.trace import TraceLevel

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.engines.tracing import TracedPass

TRUTH: Family[TargetLab] = Family(
    domain="trace-diff",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    section=SECTION,
    formats=TRACED,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A target's pass and the ground truth's over the same tokens."""

    names: tuple[str, ...]
    """What was compared: the embedding, then every layer."""
    cosines: tuple[float, ...]
    """Of the median token."""
    sizes: tuple[float, ...]
    """Length over the reference's, in the mean over the tokens."""
    attention: tuple[float, ...] | None
    """By layer, the share of attention that went elsewhere; None where one side tells none."""


def truth_pass(lab: TargetLab) -> TracedPass:
    """The ground truth's pass over the target's tokens, in float32."""
    engine: Any = lab.ground_truth()
    found: TracedPass = engine.trace(lab.once(prompt_ids), TraceLevel.PAYLOAD)
    return found


def paired(found: TracedPass, truth: TracedPass) -> Pair | None:
    """Both, layer by layer; None where they have not the same layers and widths."""
    import numpy as np

    a, b = (p.arrays["hidden"].astype(np.float64) for p in (found, truth))
    if a.shape != b.shape:
        return None
    lengths = [np.maximum(np.linalg.norm(x, axis=-1), 1e-30) for x in (a, b)]
    cosines = np.median((a * b).sum(axis=-1) / lengths[0] / lengths[1], axis=1)
    sizes = (lengths[0] / lengths[1]).mean(axis=1)
    weights = [p.arrays.get("attention") for p in (found, truth)]
    names = ("the embedding", *(residual.name for residual in found.trace.residuals))
    return Pair(names, tuple(cosines), tuple(sizes), _elsewhere(*weights))


def _elsewhere(
    a: np.ndarray[Any, Any] | None, b: np.ndarray[Any, Any] | None
) -> tuple[float, ...] | None:
    import numpy as np

    if a is None or b is None or a.shape != b.shape:
        return None
    return tuple((0.5 * np.abs(a - b).sum(axis=-1)).mean(axis=(1, 2)))


PairCheck = Callable[[Pair, LayerTolerance], Finding]


def _against_truth(check: PairCheck) -> Callable[[TargetLab], Finding]:
    @looked_into(TraceLevel.PAYLOAD)
    def checked(lab: TargetLab, found: TracedPass) -> Finding:
        pair = paired(found, lab.once(truth_pass))
        if pair is None:
            layers = len(lab.once(truth_pass).trace.residuals)
            return refuted(
                f"{len(found.trace.residuals)} layers of width {found.arrays['hidden'].shape[-1]}; "
                f"the ground truth has {layers} or another width"
            )
        return check(pair, LAYERS_BY_QUANTIZATION[lab.quantization or Quantization.BF16])

    return checked


@TRUTH.gate("F-TRACE-DIFF-001", "Every layer's output points where the ground truth's does.")
@_against_truth
def same_direction(pair: Pair, limit: LayerTolerance) -> Finding:
    """Names the first layer whose median token's cosine is too small."""
    for name, cosine in zip(pair.names, pair.cosines, strict=True):
        if not cosine >= limit.cosine:
            return refuted(
                f"{name} is the first to part from the ground truth: its median token has a "
                f"cosine of {cosine:.4f}; expected at least {limit.cosine}",
                culprit=name,
                measured={"cosine": cosine},
            )
    least = min(pair.cosines)
    return held(
        f"cosines of at least {least:.5f} over {len(pair.names)} stages", measured={"cosine": least}
    )


@TRUTH.gate("F-TRACE-DIFF-002", "Every layer's output is as long as the ground truth's.")
@_against_truth
def same_size(pair: Pair, limit: LayerTolerance) -> Finding:
    """Names the first layer whose output is too long or too short: directions do not show it."""
    for name, size in zip(pair.names, pair.sizes, strict=True):
        if not abs(size - 1) <= limit.size:
            return refuted(
                f"{name} is the first whose output has another size: {size:.4f} of the ground "
                f"truth's; expected 1 within {limit.size:g}",
                culprit=name,
                measured={"size": size},
            )
    off = max(abs(size - 1) for size in pair.sizes)
    return held(f"sizes within {off:.2g} of the ground truth's", measured={"size_off": off})


@TRUTH.gate(
    "F-TRACE-DIFF-003",
    "Every head attends to what the ground truth's head attends to.",
    applies="the model's attention can be computed plainly, so that its weights are seen",
)
@_against_truth
def same_attention(pair: Pair, limit: LayerTolerance) -> Finding:
    """Names the first layer that attends elsewhere: heads in another order show nowhere else."""
    if pair.attention is None:
        return without_meaning("no attention weights of the same shape were seen in both")
    for name, share in zip(pair.names[1:], pair.attention, strict=True):
        if not share <= limit.attention:
            return refuted(
                f"{name} gives {share:.1%} of its attention elsewhere than the ground truth; "
                f"expected at most {limit.attention:.0%}",
                culprit=name,
                measured={"elsewhere": share},
            )
    most = max(pair.attention)
    return held(f"at most {most:.1%} of a layer's attention is elsewhere")


FAMILIES = (TRUTH,)
