"""Whether answers that were generated together are those that the engine gives alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.ahead import AheadEngine
from pytest_aprqa.checks.blank import blank_gate, crashed
from pytest_aprqa.checks.scenario import first_request
from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.completion import Completion, GenerationRequest
from pytest_aprqa.domain.evidence import Evidence, Metrics, Outcome, VerdictRecord
from pytest_aprqa.domain.model_gates import GateCase
from pytest_aprqa.domain.tolerance import BATCH_NOISE
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import BatchingEngine, EngineCrashed

if TYPE_CHECKING:
    from pytest_aprqa.engines.engine import Engine

COMPARED = 8
"""Questions that are asked alone too: enough to see a mask or a position that is wrong, which
changes nearly every answer, and to measure how fast the engine is alone."""
TOGETHER = 64
"""Questions that are generated together for it: as many as the largest batch holds."""
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Pair:
    """One question answered in a batch and alone."""

    request: GenerationRequest
    batched: Completion
    alone: Completion

    @property
    def equal(self) -> bool:
        """Whether both have the same tokens."""
        return self.batched.token_ids == self.alone.token_ids


def try_batching(
    case: GateCase, ahead: AheadEngine, cases: Sequence[Case], item_id: str
) -> Evidence:
    """Ask some of the batchable cases in a batch and alone, and hold the answers together.

    Where two answers part, their tokens' logits must lie within the noise of the engine's type
    (`BATCH_NOISE`): another order of sums may then decide for either.
    """
    blank = blank_gate(case, item_id, Outcome.SKIPPED, "")
    engine = ahead.engine
    if not isinstance(engine, BatchingEngine):
        return _no_meaning(blank, f"{engine.name} answers one request at a time")
    try:
        pairs = _pairs(engine, [first_request(c) for c in cases if c.batchable])
        if not pairs:
            reason = f"{engine.name} took none of the questions into a batch"
            return _no_meaning(blank, reason)
        floor = BATCH_NOISE.get(engine.describe().get("dtype", ""), BATCH_NOISE["float32"])
        margins = [0.0 if pair.equal else _margin(engine, pair) for pair in pairs]
    except EngineCrashed as crash:
        return crashed(blank, crash, engine)
    return blank.model_copy(update=_concluded(case, engine, pairs, margins, floor))


def _no_meaning(blank: Evidence, reason: str) -> Evidence:
    return blank.model_copy(update={"reason": reason, "excused": True, "applicable": False})


def _pairs(engine: BatchingEngine, requests: Sequence[GenerationRequest]) -> list[_Pair]:
    """Evenly spread over the questions, so that short and long ones are among them."""
    distinct = list(dict.fromkeys(requests))[:TOGETHER]
    together = engine.generate_batch(distinct)
    answered = [
        (request, answer)
        for request, answer in zip(distinct, together, strict=True)
        if answer is not None
    ]
    step = max(1, len(answered) // COMPARED)
    return [
        _Pair(request, answer, engine.generate(request))
        for request, answer in answered[::step][:COMPARED]
    ]


def _margin(engine: Engine, pair: _Pair) -> float:
    """How far apart the logits are of the two tokens that answers part with; infinite if one ends.

    One that ends where the other goes on parts with its end token, which is in its tokens.
    """
    one, two = pair.batched.token_ids, pair.alone.token_ids
    common = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
    if common is None:
        return float("inf")
    prefix = (*pair.alone.prompt_token_ids, *two[:common])
    row = engine.logits(prefix)[-1]
    return abs(float(row[one[common]]) - float(row[two[common]]))


def _concluded(
    case: GateCase,
    engine: BatchingEngine,
    pairs: Sequence[_Pair],
    margins: Sequence[float],
    floor: float,
) -> dict[str, object]:
    equal = sum(pair.equal for pair in pairs)
    wrong = [pair for pair, margin in zip(pairs, margins, strict=True) if margin > floor]
    size = max(pair.batched.batch_size for pair in pairs)
    told = f"{equal} of {len(pairs)} answers from batches of up to {size} are those given alone"
    if any(margins):
        told += f"; where they part, logits are at most {max(margins):.3g} apart"
    told += f" (noise floor {floor:g})"
    if wrong:
        first = wrong[0]
        told += f"; to {first.request.prompt or first.alone.rendered_prompt!r:.60} the batch "
        told += f"answers {first.batched.text!r:.60}, alone it is {first.alone.text!r:.60}"
    ruling = Ruling.FALSIFIED if wrong else Ruling.CORROBORATED
    verdict = VerdictRecord(oracle=case.gate.item_name, ruling=ruling, reason=told)
    return {
        "outcome": Outcome.FALSIFIED if wrong else Outcome.CORROBORATED,
        "reason": told,
        "verdicts": (verdict,),
        "measurements": {
            "compared": float(len(pairs)),
            "equal": float(equal),
            "batch_size": float(size),
            "noise_floor": floor,
            "largest_margin": min(max(margins), 1e30),  # JSON has no infinity
        },
        "metrics": _metrics([pair.alone for pair in pairs]),
        "engine": dict(engine.describe()),
    }


def _metrics(alone: Sequence[Completion]) -> Metrics:
    """What the questions took alone, together: sums, and the median time to the first token."""
    tokens = sum(c.completion_tokens for c in alone)
    seconds = sum(c.total_s for c in alone)
    waits = [c.ttft_s for c in alone if c.ttft_s is not None]
    return Metrics(
        prompt_tokens=sum(c.prompt_tokens for c in alone),
        completion_tokens=tokens,
        finish_reason="stop",
        ttft_ms=round(statistics.median(waits) * 1000, 3) if waits else None,
        duration_ms=round(seconds * 1000, 3),
        tokens_per_second=round(tokens / seconds, 2) if tokens and seconds > 0 else None,
        memory_peak_mib=round(max(c.peak_memory_bytes for c in alone) / _MEBIBYTE, 1),
    )
