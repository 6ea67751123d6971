"""What every layer of a traced pass gives: finite, in range, alive, and counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import SECTION, TRACED, first_not_finite, looked_into
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.tolerance import (
    DEAD_CHANGE,
    DEAD_HEAD,
    DEAD_NEURONS,
    FLOAT16_SHARE,
    RESIDUAL_GROWTH,
    RESIDUAL_LIMIT,
    TOKENS_DISTINCT,
)
from pytest_aprqa.domain.trace import SPINE, Role, TraceLevel

if TYPE_CHECKING:
    from pytest_aprqa.domain.trace import Trace
    from pytest_aprqa.engines.tracing import TracedPass

LAYERS: Family[TargetLab] = Family(
    domain="trace",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    section=SECTION,
    formats=TRACED,
)
_FLOAT16_MAX = 65504.0


@LAYERS.gate(
    "F-TRACE-PAYLOAD-001",
    "No module of a forward pass gives NaN or an infinity.",
    severity=Severity.P0,
)
@looked_into(TraceLevel.LAYER, finite=False)
def no_module_breaks(_lab: TargetLab, found: TracedPass) -> Finding:
    """Names the first module, in the order of the pass, that does."""
    broken = first_not_finite(found)
    looked = sum(module.values is not None for module in found.trace.modules)
    if broken is None and not looked:
        return undecided("the trace has no values of any module")
    if broken is None:
        return held(f"{looked} modules give finite values only")
    assert broken.values is not None
    return refuted(
        f"{broken.name} ({broken.kind}) gives {broken.values.nan} NaN and {broken.values.inf} "
        f"infinities among {broken.values.size} values; expected none",
        culprit=broken.name,
    )


@LAYERS.gate("F-TRACE-PAYLOAD-003", "Every layer's output stays within range.")
@looked_into(TraceLevel.LAYER)
def in_range(_lab: TargetLab, found: TracedPass) -> Finding:
    """The largest absolute value of each layer's output, embedding and last norm included."""
    limit = _FLOAT16_MAX * FLOAT16_SHARE if found.trace.dtype == "float16" else RESIDUAL_LIMIT
    seen = [(m, m.values) for m in found.trace.modules if m.values and m.role in SPINE]
    for module, values in seen:
        if values.max_abs > limit:
            return refuted(
                f"{module.name} gives values up to {values.max_abs:.3g}; expected at most "
                f"{limit:.3g} in {found.trace.dtype}",
                culprit=module.name,
                measured={"max_abs": values.max_abs},
            )
    largest = max(values.max_abs for _, values in seen)
    return held(f"values up to {largest:.3g}", measured={"max_abs": largest})


@LAYERS.gate("F-TRACE-002", "Statistics are complete for the embedding, every layer and the head.")
@looked_into(TraceLevel.LAYER)
def complete(_lab: TargetLab, found: TracedPass) -> Finding:
    """Every one has statistics that agree among themselves: min <= mean <= max, l2 from std."""
    trace = found.trace
    spine = [module for module in trace.modules if module.role in SPINE]
    present = {module.role for module in spine}
    missing = [role.value for role in SPINE if role not in present]
    if missing:
        return refuted(f"the trace has no statistics of: {', '.join(missing)}")
    for module in spine:
        v = module.values
        if v is None or v.size == 0:
            return refuted(f"{module.name} has no statistics", culprit=module.name)
        slack = 1e-3 * (v.max_abs + 1e-12)
        root = ((v.l2**2 / v.size) - v.mean**2) if v.size else 0.0
        agrees = abs(max(root, 0.0) ** 0.5 - v.std) <= 1e-2 * (v.std + abs(v.mean)) + 1e-9
        if not (v.minimum - slack <= v.mean <= v.maximum + slack and agrees):
            return refuted(
                f"the statistics of {module.name} contradict each other: {v}", culprit=module.name
            )
    return held(f"{len(spine)} modules with mean, std, min, max, l2 and counts")


@LAYERS.gate("F-TRACE-006", "No layer multiplies the stream of hidden states.")
@looked_into(TraceLevel.LAYER)
def no_explosion(_lab: TargetLab, found: TracedPass) -> Finding:
    """Growth of the median token from layer to layer, the first layer left out."""
    later = [r for r in found.trace.residuals if r.layer > 0]
    if not later:
        return without_meaning("the model has one layer")
    worst = max(later, key=lambda r: r.rms_out / max(r.rms_in, 1e-30))
    growth = worst.rms_out / max(worst.rms_in, 1e-30)
    if growth > RESIDUAL_GROWTH:
        first = next(r for r in later if r.rms_out > RESIDUAL_GROWTH * r.rms_in)
        return refuted(
            f"{first.name} takes the median token from {first.rms_in:.3g} to {first.rms_out:.3g}; "
            f"expected a growth of at most {RESIDUAL_GROWTH:g}",
            culprit=first.name,
            measured={"growth": growth},
        )
    return held(f"the largest growth is {growth:.3g} in {worst.name}", measured={"growth": growth})


@LAYERS.gate("F-TRACE-LAYERS-001", "The pass goes through as many layers as the config names.")
@looked_into(TraceLevel.BASIC, finite=False)
def all_layers_run(lab: TargetLab, found: TracedPass) -> Finding:
    """The layers that ran, each once and in order, against the ground truth's config.json."""
    ran = [module.layer for module in found.trace.of_role(Role.LAYER)]
    config = lab.model.config
    told = config.get("num_hidden_layers") or config.get("n_layer") or config.get("num_layers")
    if not isinstance(told, int):
        told = (config.get("text_config") or {}).get("num_hidden_layers")
    if not isinstance(told, int):
        return undecided("config.json does not say how many layers there are")
    if ran != list(range(told)):
        absent = [i for i in range(told) if i not in ran]
        return refuted(
            f"layers {ran} ran; expected 0 to {told - 1} in order",
            culprit=f"layer {absent[0]}" if absent else "",
        )
    return held(f"{told} layers ran in order")


@LAYERS.gate("F-TRACE-DEAD-001", "Every layer changes the stream of hidden states.")
@looked_into(TraceLevel.LAYER)
def no_dead_layer(_lab: TargetLab, found: TracedPass) -> Finding:
    """The median token's relative change in each layer."""
    return _alive([(r.name, r.change) for r in found.trace.residuals], "changes the stream")


@LAYERS.gate("F-TRACE-DEAD-002", "Every layer's attention adds to the stream.")
@looked_into(TraceLevel.LAYER)
def no_dead_attention(_lab: TargetLab, found: TracedPass) -> Finding:
    """The size of what attention adds, relative to the stream."""
    adds = [(r.name, r.attention) for r in found.trace.residuals if r.attention is not None]
    return _alive([(f"{name}: attention", share) for name, share in adds], "adds to the stream")


@LAYERS.gate("F-TRACE-DEAD-003", "Every layer's MLP adds to the stream.")
@looked_into(TraceLevel.LAYER)
def no_dead_mlp(_lab: TargetLab, found: TracedPass) -> Finding:
    """The size of what the MLP adds, relative to the stream."""
    adds = [(r.name, r.mlp) for r in found.trace.residuals if r.mlp is not None]
    return _alive([(f"{name}: MLP", share) for name, share in adds], "adds to the stream")


def _alive(seen: list[tuple[str, float]], does: str) -> Finding:
    if not seen:
        return without_meaning("the model has no such part that can be told apart")
    name, least = min(seen, key=lambda entry: entry[1])
    dead = next((who for who, share in seen if not share >= DEAD_CHANGE), None)
    if dead is not None:
        return refuted(
            f"{dead} {does} by {least:.3g} of it; expected at least {DEAD_CHANGE:g}",
            culprit=dead,
            measured={"least": least},
        )
    return held(f"the least is {least:.3g} in {name}", measured={"least": least})


@LAYERS.gate(
    "F-TRACE-NEURON-001",
    "The neurons of every MLP act on some token.",
    severity=Severity.P2,
    applies="the activation gives no exact zeros, and the MLP has no experts",
)
@looked_into(TraceLevel.PAYLOAD, tokens=4)
def neurons_act(_lab: TargetLab, found: TracedPass) -> Finding:
    """The share of neurons that are exactly zero at every token."""
    if "relu" in found.trace.activation.lower() or _without_activation(found.trace):
        return without_meaning(f"{found.trace.activation or 'the activation'} gives zeros itself")
    shares = [(r.name, r.dead_neurons) for r in found.trace.residuals]
    known = [(name, share) for name, share in shares if share is not None]
    if not known:
        return without_meaning("no layer has an MLP of its own without experts")
    name, worst = max(known, key=lambda entry: entry[1])
    if worst > DEAD_NEURONS:
        return refuted(
            f"{worst:.1%} of the neurons of {name} are zero at all {len(found.trace.token_ids)} "
            f"tokens; expected at most {DEAD_NEURONS:.0%}",
            culprit=f"{name}: MLP",
            measured={"dead_neurons": worst},
        )
    return held(f"at most {worst:.1%} are silent", measured={"dead_neurons": worst})


def _without_activation(trace: Trace) -> bool:
    return not trace.activation


@LAYERS.gate("F-TRACE-HEADS-001", "Every attention head gives something.", severity=Severity.P2)
@looked_into(TraceLevel.PAYLOAD)
def heads_give(_lab: TargetLab, found: TracedPass) -> Finding:
    """Each head's output before the projection, against its layer's median head."""
    looked = 0
    for residual in found.trace.residuals:
        heads = residual.head_rms
        looked += len(heads)
        middle = sorted(heads)[len(heads) // 2] if heads else 0.0
        for index, size in enumerate(heads):
            if not size > DEAD_HEAD * middle:
                return refuted(
                    f"head {index} of {residual.name} gives {size:.3g} where its layer's median "
                    f"head gives {middle:.3g}",
                    culprit=f"{residual.name}: head {index}",
                )
    if not looked:
        return without_meaning("what the heads give cannot be told apart in this architecture")
    return held(f"all {looked} heads give something")


@LAYERS.gate("F-TRACE-RANK-001", "Different tokens stay different through all layers.")
@looked_into(TraceLevel.PAYLOAD, tokens=4)
def tokens_stay_distinct(_lab: TargetLab, found: TracedPass) -> Finding:
    """The least cosine between the states of different tokens after the last layer."""
    import numpy as np

    first: dict[int, int] = {}
    for place, token in enumerate(found.trace.token_ids):
        first.setdefault(token, place)
    if len(first) < 3:
        return without_meaning("the prompt has fewer than three different tokens")
    states = found.arrays["hidden"][-1][list(first.values())].astype(np.float64)
    lengths = np.linalg.norm(states, axis=1, keepdims=True)
    unit = states / np.maximum(lengths, 1e-30)
    least = float((unit @ unit.T).min())
    if least > TOKENS_DISTINCT:
        return refuted(
            f"all {len(first)} different tokens have the same state after the last layer (least "
            f"cosine {least:.6f}); expected below {TOKENS_DISTINCT}",
            measured={"least_cosine": least},
        )
    return held(f"the least cosine of two tokens is {least:.3f}", measured={"least_cosine": least})


FAMILIES = (LAYERS,)
ALIASES = {
    "F-CHECK-010": "F-TRACE-PAYLOAD-001",
    "F-CHECK-004": "F-TRACE-PAYLOAD-003",
    "F-TRACE-003": "F-TRACE-PAYLOAD-001",
    "F-TRACE-004": "F-TRACE-PAYLOAD-001",
    "F-CHECK-009": "F-TRACE-LAYERS-001",
    "F-GPU-005": "F-TRACE-PAYLOAD-003",
}
