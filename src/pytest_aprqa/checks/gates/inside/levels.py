"""Every trace level works, records what it promises, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import (
    SECTION,
    TIMEOUT_S,
    TRACED,
    NotTraced,
    prompt_ids,
    traced_at,
)
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.tolerance import TRACE_KLD
from pytest_aprqa.domain.trace import SPINE, Role, TraceLevel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from pytest_aprqa.engines.tracing import TracedPass

LEVELS: Family[TargetLab] = Family(
    domain="trace-levels",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    section=SECTION,
    formats=TRACED,
)
_ANSWER = 8
"""Tokens of the answers that are compared."""


@dataclass(frozen=True, slots=True)
class AllLevels:
    """One pass at each level, and the engine's own logits before and after them."""

    passes: dict[TraceLevel, TracedPass]
    before: np.ndarray[Any, Any]
    """The engine's own logits."""
    after: np.ndarray[Any, Any]


def all_levels(lab: TargetLab) -> AllLevels:
    """Trace the prompt at every level.

    Raises:
        NotTraced: the engine or the model offers none.
        EngineCrashed: the engine broke.
    """
    ids = lab.once(prompt_ids)
    before = lab.engine.logits(ids)
    passes = {level: traced_at(lab, level) for level in TraceLevel}
    return AllLevels(passes, before, lab.engine.logits(ids))


def answers_around(lab: TargetLab) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Greedy tokens before and after a pass at the level that changes most."""
    ids = lab.once(prompt_ids)
    request = GenerationRequest(prompt_token_ids=ids, max_tokens=_ANSWER, timeout_s=TIMEOUT_S)
    before = lab.engine.generate(request).token_ids
    traced_at(lab, TraceLevel.PAYLOAD)
    return before, lab.engine.generate(request).token_ids


def _at(
    level: TraceLevel,
) -> Callable[[Callable[[TracedPass], Finding]], Callable[[TargetLab], Finding]]:
    def wrap(check: Callable[[TracedPass], Finding]) -> Callable[[TargetLab], Finding]:
        def checked(lab: TargetLab) -> Finding:
            try:
                found = lab.once(all_levels).passes[level]
            except NotTraced as error:
                return without_meaning(str(error))
            if found.trace.level is not level:
                return refuted(f"asked for level {level}, told {found.trace.level}")
            return check(found)

        return checked

    return wrap


@LEVELS.gate(
    "F-TRACELEVEL-001",
    "Level none gives the pass's logits and records nothing else.",
    severity=Severity.P2,
)
@_at(TraceLevel.NONE)
def none_records_nothing(found: TracedPass) -> Finding:
    """No module, no array but the logits."""
    others = [name for name in found.arrays if name != "logits"]
    if found.trace.modules or found.trace.residuals or others or "logits" not in found.arrays:
        return refuted(
            f"level none recorded {len(found.trace.modules)} modules and the arrays "
            f"{sorted(found.arrays)}; expected logits alone"
        )
    return held("logits, and nothing beside them")


@LEVELS.gate(
    "F-TRACELEVEL-002",
    "Level basic names and times every module, and looks at no values.",
    severity=Severity.P2,
)
@_at(TraceLevel.BASIC)
def basic_times_modules(found: TracedPass) -> Finding:
    """Every layer is there, every time positive and within the pass's own."""
    modules, whole = found.trace.modules, found.trace.seconds
    if not modules:
        return refuted("level basic names no module")
    if len(found.trace.of_role(Role.LAYER)) != found.trace.layers:
        ran = len(found.trace.of_role(Role.LAYER))
        return refuted(f"level basic names {ran} layers; expected {found.trace.layers}")
    for module in modules:
        if not 0 < module.seconds <= whole:
            return refuted(
                f"{module.name} took {module.seconds:.3g} s of a pass of {whole:.3g} s",
                culprit=module.name,
            )
        if module.values is not None:
            return refuted(f"level basic has values of {module.name}", culprit=module.name)
    return held(f"{len(modules)} modules named and timed")


@LEVELS.gate(
    "F-TRACELEVEL-003",
    "Level layer has statistics of every layer, and of no module inside one.",
    severity=Severity.P2,
)
@_at(TraceLevel.LAYER)
def layer_has_statistics(found: TracedPass) -> Finding:
    """Statistics for the spine alone, and what each layer did to the stream."""
    trace = found.trace
    if not any(module.role in SPINE for module in trace.modules):
        return refuted("level layer names no embedding, layer or head")
    for module in trace.modules:
        if (module.values is not None) != (module.role in SPINE):
            lacks = "no statistics" if module.role in SPINE else "statistics"
            return refuted(f"level layer has {lacks} of {module.name}", culprit=module.name)
    if len(trace.residuals) != trace.layers:
        return refuted(f"{len(trace.residuals)} layers are told of; expected {trace.layers}")
    return held(f"{trace.layers} layers, the embedding, the last norm and the head")


@LEVELS.gate(
    "F-TRACELEVEL-004",
    "Level payload shows values of every module, attention, and all hidden states.",
    severity=Severity.P2,
)
@_at(TraceLevel.PAYLOAD)
def payload_shows_values(found: TracedPass) -> Finding:
    """First values, hidden states of every layer, attention or the reason why there is none."""
    trace = found.trace
    if not trace.modules:
        return refuted("level payload names no module")
    for module in trace.modules:
        if module.values is None or not module.values.first:
            return refuted(f"level payload shows no values of {module.name}", culprit=module.name)
    hidden = found.arrays.get("hidden")
    if hidden is None or len(hidden) != trace.layers + 1:
        count = 0 if hidden is None else len(hidden)
        return refuted(f"{count} hidden states; expected {trace.layers + 1}")
    attends = any(module.role is Role.ATTENTION for module in trace.modules)
    if attends and not trace.attention and not trace.remarks:
        return refuted("level payload shows no attention and does not say why")
    return held(
        f"{len(trace.modules)} modules, {len(hidden)} hidden states, attention of "
        f"{len(trace.attention)} layers"
    )


@LEVELS.gate("F-TRACELEVEL-005", "Tracing changes no logit and no answer.", severity=Severity.P1)
def tracing_changes_nothing(lab: TargetLab) -> Finding:
    """Bit for bit at the levels that leave attention alone; within rounding at level payload."""
    import numpy as np

    try:
        found = lab.once(all_levels)
    except NotTraced as error:
        return without_meaning(str(error))
    if not np.isfinite(found.before).all():
        return undecided("the logits hold NaN or infinities: nothing to compare")
    for level in (TraceLevel.NONE, TraceLevel.BASIC, TraceLevel.LAYER):
        logits = found.passes[level].arrays["logits"]
        if not np.array_equal(logits, found.before):
            off = float(np.abs(logits - found.before).max())
            return refuted(f"at level {level} logits differ by up to {off:.3g}; expected equal")
    kld = _divergence(found.before, found.passes[TraceLevel.PAYLOAD].arrays["logits"])
    if not kld <= TRACE_KLD:
        return refuted(
            f"at level payload the logits diverge by {kld:.3g} nats; expected at most {TRACE_KLD}",
            measured={"kld": kld},
        )
    if not np.array_equal(found.after, found.before):
        return refuted("after the traces the engine's own logits are others than before")
    said, then = lab.once(answers_around)
    if said != then:
        return refuted(f"after a trace the answer is {then}, before it was {said}")
    if not said:
        return undecided("logits are equal at every level, but the engine answers nothing")
    return held(
        f"logits equal at every level (payload: {kld:.2g} nats), the same answer before and after",
        measured={"kld": kld},
    )


def _divergence(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Mean Kullback-Leibler divergence of softmax(b) from softmax(a), in nats."""
    import numpy as np

    first, second = (_log_softmax(x.astype(np.float64)) for x in (a, b))
    return float((np.exp(first) * (first - second)).sum(axis=-1).mean())


def _log_softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    shifted = x - x.max(axis=-1, keepdims=True)
    found: np.ndarray[Any, Any] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


FAMILIES = (LEVELS,)
ALIASES = {
    "F-TRACE_NONE-001": "F-TRACELEVEL-001",
    "F-TRACE_BASIC-001": "F-TRACELEVEL-002",
    "F-TRACE_LAYER-001": "F-TRACELEVEL-003",
    "F-TRACE_PAYLOAD-001": "F-TRACELEVEL-004",
    "F-TRACE-005": "F-TRACELEVEL-004",
}
