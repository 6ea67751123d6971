"""What attention and norms compute in a traced pass: sums, ranges, entropy, unit sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import SECTION, TRACED, looked_into
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.tolerance import (
    COLLAPSED_ATTENTION,
    NORM_COSINE,
    NORM_SCALE,
    SOFTMAX_SUM,
    UNIFORM_ATTENTION,
)
from pytest_aprqa.domain.trace import TraceLevel

if TYPE_CHECKING:
    from pytest_aprqa.domain.trace import AttentionTrace
    from pytest_aprqa.engines.tracing import TracedPass

ATTENTION: Family[TargetLab] = Family(
    domain="numerics",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    section=SECTION,
    formats=TRACED,
)
_WHERE = "the model's attention can be computed plainly, so that its weights are seen"

AttentionCheck = Callable[["tuple[AttentionTrace, ...]"], Finding]


def _over_attention(check: AttentionCheck) -> Callable[[TargetLab], Finding]:
    @looked_into(TraceLevel.PAYLOAD, tokens=4)
    def checked(_lab: TargetLab, found: TracedPass) -> Finding:
        if not found.trace.attention:
            why = "; ".join(found.trace.remarks) or "the model's layers have no attention"
            return without_meaning(f"no attention weights were seen: {why}")
        return check(found.trace.attention)

    return checked


@ATTENTION.gate("F-NUM-001", "No layer attends to everything alike.", applies=_WHERE)
@_over_attention
def attention_chooses(seen: tuple[AttentionTrace, ...]) -> Finding:
    """A layer all of whose heads have the largest entropy there is has no attention."""
    for layer in seen:
        if min(layer.entropy) > UNIFORM_ATTENTION:
            return refuted(
                f"every head of {layer.name} spreads its attention evenly (normalised entropy "
                f"{min(layer.entropy):.6f}); expected one below {UNIFORM_ATTENTION}",
                culprit=layer.name,
                measured={"entropy": min(layer.entropy)},
            )
    entropies = [value for layer in seen for value in layer.entropy]
    low, high = min(entropies), max(entropies)
    return held(
        f"normalised entropy from {low:.3f} to {high:.3f} over {len(entropies)} heads",
        measured={"entropy_low": low, "entropy_high": high},
    )


@ATTENTION.gate("F-NUM-005", "Some head attends to more than one token.", applies=_WHERE)
@_over_attention
def attention_is_not_collapsed(seen: tuple[AttentionTrace, ...]) -> Finding:
    """Scores without their scale make every head of every layer look at one token only."""
    widest = max(seen, key=lambda layer: max(layer.entropy))
    entropy = max(widest.entropy)
    if not entropy > COLLAPSED_ATTENTION:
        return refuted(
            f"all {sum(len(layer.entropy) for layer in seen)} heads attend to one token only; the "
            f"largest normalised entropy is {entropy:.2g} in {widest.name}, expected above "
            f"{COLLAPSED_ATTENTION:g}",
            culprit=widest.name,
            measured={"entropy": entropy},
        )
    return held(f"the widest head is in {widest.name}, with a normalised entropy of {entropy:.3f}")


@ATTENTION.gate("F-NUM-003", "Every row of attention weights sums to 1.", applies=_WHERE)
@_over_attention
def rows_sum_to_one(seen: tuple[AttentionTrace, ...]) -> Finding:
    """Within the rounding of the weights' type."""
    known = [layer for layer in seen if not layer.sinks]
    if not known:
        return without_meaning("part of every softmax goes to learned sinks")
    for layer in known:
        limit = SOFTMAX_SUM.get(layer.dtype, SOFTMAX_SUM["bfloat16"])
        if not (1 - limit <= layer.row_low and layer.row_high <= 1 + limit):
            return refuted(
                f"rows of {layer.name} sum to {layer.row_low:.6g} to {layer.row_high:.6g}; "
                f"expected 1 within {limit:.2g} in {layer.dtype}",
                culprit=layer.name,
            )
    off = max(max(1 - layer.row_low, layer.row_high - 1) for layer in known)
    return held(f"all rows sum to 1 within {off:.2g}", measured={"off": off})


@ATTENTION.gate("F-NUM-004", "Attention weights are probabilities, from 0 to 1.", applies=_WHERE)
@_over_attention
def weights_are_probabilities(seen: tuple[AttentionTrace, ...]) -> Finding:
    """No weight is negative or above 1."""
    for layer in seen:
        if not (layer.lowest >= 0 and layer.highest <= 1 + SOFTMAX_SUM["float32"]):
            return refuted(
                f"weights of {layer.name} go from {layer.lowest:.6g} to {layer.highest:.6g}; "
                "expected 0 to 1",
                culprit=layer.name,
            )
    return held(f"the weights of {len(seen)} layers lie between 0 and 1")


@ATTENTION.gate("F-TRACE-MASK-001", "No token attends to a later one.", applies=_WHERE)
@_over_attention
def none_looks_ahead(seen: tuple[AttentionTrace, ...]) -> Finding:
    """The largest weight above the diagonal, which the causal mask makes exactly 0."""
    for layer in seen:
        if layer.ahead > 0:
            return refuted(
                f"{layer.name} gives a later token a weight of {layer.ahead:.3g}; expected 0",
                culprit=layer.name,
                measured={"ahead": layer.ahead},
            )
    return held(f"the {len(seen)} layers give later tokens no weight at all")


@ATTENTION.gate("F-NUM-002", "Every norm gives values of unit size before its weight.")
@looked_into(TraceLevel.PAYLOAD)
def norms_give_unit_size(_lab: TargetLab, found: TracedPass) -> Finding:
    """Each norm's output against the plain formula: its direction, and the size that is left."""
    low, high = NORM_SCALE
    seen = found.trace.norms
    if not seen:
        return without_meaning("the model has no norm over the last axis")
    for norm in seen:
        if not (norm.scale >= low and norm.scale_high <= high and norm.cosine >= NORM_COSINE):
            return refuted(
                f"{norm.name} gives {norm.scale:.3g} to {norm.scale_high:.3g} of the normalised "
                f"size, with a cosine of {norm.cosine:.4f} to the formula; expected {low:g} to "
                f"{high:g} and {NORM_COSINE}",
                culprit=norm.name,
            )
    return held(
        f"{len(seen)} norms give at least {min(n.scale for n in seen):.4f} of the normalised size"
    )


FAMILIES = (ATTENTION,)
ALIASES = {
    "F-CHECK-003": "F-NUM-003",
    "F-CHECK-008": "F-NUM-003",
    "F-CHECK-005": "F-NUM-002",
}
