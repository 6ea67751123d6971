"""How a model's passes hang together: causality, order, memory, the cache, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.passes import (
    SECTION,
    continued,
    continued_past_the_end,
    prompt_ids,
)
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.oracle_spec import GarbageSpec
from pytest_aprqa.domain.tolerance import BATCH_NOISE, CAUSAL_NOISE, SENSITIVE
from pytest_aprqa.domain.verdict import Ruling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

BEHAVIOUR: Family[TargetLab] = Family(
    domain="pass",
    place=Place.TARGET,
    cost=Cost.LOGITS,
    rung=Rung.LOGITS,
    section=SECTION,
)
_LEAST_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Variations:
    """Logits of the prompt and of variations of it: float32 [tokens, vocabulary]."""

    token_ids: tuple[int, ...]
    plain: np.ndarray[Any, Any]
    other_end: np.ndarray[Any, Any]
    """With another last token."""
    other_start: np.ndarray[Any, Any]
    """With another second token."""
    other_order: np.ndarray[Any, Any]
    """With the tokens between the first and the last in reverse."""


def varied(lab: TargetLab) -> Variations:
    """Four passes over a text that has different tokens in its middle."""
    ids = list(lab.once(prompt_ids))
    last = next((i for i in ids if i != ids[-1]), ids[-1])
    second = next((i for i in reversed(ids) if i != ids[1]), ids[1]) if len(ids) > 1 else 0
    logits = lab.engine.logits
    return Variations(
        tuple(ids),
        logits(ids),
        logits([*ids[:-1], last]),
        logits([ids[0], second, *ids[2:]]) if len(ids) > 1 else logits(ids),
        logits([*ids[:1], *reversed(ids[1:-1]), *ids[-1:]]),
    )


def _measured(lab: TargetLab) -> Variations | Finding:
    ids = lab.once(prompt_ids)
    if len(ids) < _LEAST_TOKENS or len(set(ids[1:])) < 3:
        return without_meaning(f"the prompt has too few different tokens: {list(ids)}")
    import numpy as np

    found = lab.once(varied)
    if not np.isfinite(found.plain).all():
        return undecided("the logits hold NaN or infinities: nothing to measure")
    return found


def _moved(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Root mean square of the change of each token's logits, over their standard deviation."""
    import numpy as np

    found: np.ndarray[Any, Any] = np.sqrt(np.square(a - b).mean(axis=-1)) / np.maximum(
        scale.std(axis=-1), 1e-30
    )
    return found


@BEHAVIOUR.gate("F-TRACE-CAUSAL-001", "Another last token changes no earlier logits.")
def later_tokens_change_nothing(lab: TargetLab) -> Finding:
    """The largest change over all earlier tokens."""
    found = _measured(lab)
    if isinstance(found, Finding):
        return found
    moved = _moved(found.plain, found.other_end, found.plain)[:-1]
    limit = _noise(lab, CAUSAL_NOISE)
    worst = int(moved.argmax())
    if not moved[worst] <= limit:
        return refuted(
            f"another last token moves the logits of token {worst} by {moved[worst]:.3g} of their "
            f"standard deviation; expected at most {limit:g}",
            measured={"moved": float(moved[worst])},
        )
    return held(f"earlier logits move by at most {moved[worst]:.2g} of their standard deviation")


@BEHAVIOUR.gate("F-TRACE-CONTEXT-001", "An early token reaches the last logits.")
def early_tokens_reach_the_end(lab: TargetLab) -> Finding:
    """The change of the last token's logits when the second token is another one."""
    found = _measured(lab)
    if isinstance(found, Finding):
        return found
    moved = float(_moved(found.plain, found.other_start, found.plain)[-1])
    if not moved >= SENSITIVE:
        return refuted(
            f"another second token moves the last logits by {moved:.3g} of their standard "
            f"deviation; expected at least {SENSITIVE:g}: nothing carries over",
            measured={"moved": moved},
        )
    return held(f"another second token moves the last logits by {moved:.2g}")


@BEHAVIOUR.gate("F-CHECK-006", "Positions act: the same tokens in another order mean another.")
def order_matters(lab: TargetLab) -> Finding:
    """The change of the last token's logits when those before it come in reverse."""
    found = _measured(lab)
    if isinstance(found, Finding):
        return found
    middle = found.token_ids[1:-1]
    if middle == middle[::-1]:
        return without_meaning("the prompt reads the same in reverse")
    moved = float(_moved(found.plain, found.other_order, found.plain)[-1])
    if not moved >= SENSITIVE:
        return refuted(
            f"the reverse order moves the last logits by {moved:.3g} of their standard deviation; "
            f"expected at least {SENSITIVE:g}: positions do not act",
            measured={"moved": moved},
        )
    return held(f"the reverse order moves the last logits by {moved:.2g}")


@BEHAVIOUR.gate("F-CHECK-007", "Step by step with its cache a model says what one pass says.")
def cache_keeps_all(lab: TargetLab) -> Finding:
    """Each greedy token against the largest logit of one pass over the whole text."""
    found = lab.once(continued_past_the_end)
    answer = list(found.answer.token_ids)
    if not answer:
        return undecided("nothing was generated")
    logits = lab.engine.logits([*found.token_ids, *answer])
    limit = _noise(lab, BATCH_NOISE)
    wrong = _first_lower(logits, len(found.token_ids), answer, limit)
    if wrong is not None:
        step, gap = wrong
        return refuted(
            f"the cached step {step} picked token {answer[step]}, whose logit is {gap:.3g} below "
            f"the largest in one pass over the same text; expected at most {limit:g}",
            measured={"gap": gap},
        )
    return held(f"{len(answer)} cached steps pick what one pass over the whole text picks")


def _first_lower(
    logits: np.ndarray[Any, Any], prompt: int, answer: Sequence[int], limit: float
) -> tuple[int, float] | None:
    for step, token in enumerate(answer):
        row = logits[prompt + step - 1]
        gap = float(row.max() - row[token])
        if not gap <= limit:
            return step, gap
    return None


@BEHAVIOUR.gate(
    "F-TRACE-PAYLOAD-002", "The traced prompt's continuation is not garbage.", rung=Rung.TEXT
)
def continuation_is_text(lab: TargetLab) -> Finding:
    """The garbage oracle over the greedy continuation."""
    from pytest_aprqa.oracles.garbage.oracle import GarbageOracle

    answer = lab.once(continued).answer
    oracle = GarbageOracle(GarbageSpec())
    verdict = oracle.judge(lab.sections.trace_payload.prompt, answer.text)
    if not answer.text.strip() and answer.token_ids:
        return undecided("the model ends its answer at once: there is no text to judge")
    if verdict.ruling is Ruling.FALSIFIED:
        return refuted(f"{verdict.reason}: {answer.text[:120]!r}")
    return held(f"{len(answer.token_ids)} tokens of text: {answer.text[:60]!r}")


def _noise(lab: TargetLab, limits: Mapping[str, float]) -> float:
    """The limit for the type that the engine computes in.

    llama.cpp tells none: it rounds activations before it multiplies them with blocks, and keeps
    its cache in float16.
    """
    return limits.get(lab.engine.describe().get("dtype", ""), limits["float16"])


FAMILIES = (BEHAVIOUR,)

ALIASES = {
    "F-GPU-004": "F-CHECK-007",
}
