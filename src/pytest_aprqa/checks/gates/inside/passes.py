"""The passes that the gates about the inside of a model share, each made once for a target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, undecided, without_meaning
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.trace import ModuleTrace, TraceLevel
from pytest_aprqa.engines.engine import InvalidRequest

if TYPE_CHECKING:
    from pytest_aprqa.domain.completion import Completion
    from pytest_aprqa.engines.tracing import TracedPass

TRACED = frozenset({Format.SAFETENSORS, Format.APR})
"""Formats that transformers runs; llama.cpp's library offers no look into a pass."""
SECTION = "trace_payload"
MOST_TOKENS = 64
"""Tokens of the prompt that are traced: the first ones."""
CONTINUED = 24
"""Tokens that the traced prompt is continued by."""
STEPS = 16
"""Steps with the cache that are held against one pass."""
TIMEOUT_S = 120.0
_ORDER = tuple(TraceLevel)

TraceCheck = Callable[[TargetLab, "TracedPass"], Finding]


class NotTraced(Exception):
    """The target's engine, or its model, offers no look into a pass; the message says why."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """The traced prompt's tokens, and a greedy answer to them."""

    token_ids: tuple[int, ...]
    answer: Completion


def prompt_ids(lab: TargetLab) -> tuple[int, ...]:
    """The tokens of the section's prompt as the target's engine cuts it, the first ones."""
    return lab.engine.tokenize(lab.sections.trace_payload.prompt, special=True)[:MOST_TOKENS]


def traced(lab: TargetLab) -> TracedPass:
    """One pass over the prompt at the section's level.

    Raises:
        NotTraced: the engine or the model offers none.
        EngineCrashed: the engine broke.
    """
    return traced_at(lab, TraceLevel(lab.sections.trace_payload.level))


def traced_at(lab: TargetLab, level: TraceLevel) -> TracedPass:
    """One pass over the prompt at a level; not remembered.

    Raises:
        NotTraced: the engine or the model offers none.
        EngineCrashed: the engine broke.
    """
    trace = getattr(lab.engine, "trace", None)
    if trace is None:
        raise NotTraced(f"{lab.engine.name} offers no look into a pass")
    try:
        found: TracedPass = trace(lab.once(prompt_ids), level)
    except InvalidRequest as error:
        raise NotTraced(str(error)) from error
    return found


def continued(lab: TargetLab) -> Continuation:
    """The traced prompt, continued greedily."""
    ids = lab.once(prompt_ids)
    request = GenerationRequest(prompt_token_ids=ids, max_tokens=CONTINUED, timeout_s=TIMEOUT_S)
    return Continuation(ids, lab.engine.generate(request))


def continued_past_the_end(lab: TargetLab) -> Continuation:
    """The traced prompt, continued greedily and past any end token."""
    ids = lab.once(prompt_ids)
    request = GenerationRequest(
        prompt_token_ids=ids, max_tokens=STEPS, ignore_eos=True, timeout_s=TIMEOUT_S
    )
    return Continuation(ids, lab.engine.generate(request))


def looked_into(
    level: TraceLevel, *, tokens: int = 1, finite: bool = True
) -> Callable[[TraceCheck], Callable[[TargetLab], Finding]]:
    """Give a check the shared pass, where that records enough for it.

    `tokens` is the shortest text on which the claim has a meaning; with `finite` a pass that holds
    NaN or infinities decides nothing, as another gate names them.
    """

    def wrap(check: TraceCheck) -> Callable[[TargetLab], Finding]:
        @wraps(check)
        def checked(lab: TargetLab) -> Finding:
            try:
                found = lab.once(traced)
            except NotTraced as error:
                return without_meaning(str(error))
            trace = found.trace
            if _ORDER.index(trace.level) < _ORDER.index(level):
                return without_meaning(f"needs level {level}; the playbook asks for {trace.level}")
            if len(trace.token_ids) < tokens:
                return without_meaning(
                    f"needs {tokens} tokens; the prompt has {len(trace.token_ids)}"
                )
            broken = first_not_finite(found)
            if finite and broken is not None:
                return undecided(f"{broken.name} holds NaN or infinities: nothing to measure")
            return check(lab, found)

        return checked

    return wrap


def first_not_finite(found: TracedPass) -> ModuleTrace | None:
    """The first module, in the order of the pass, whose output is not all finite."""
    return next((m for m in found.trace.modules if m.values and m.values.not_finite), None)
