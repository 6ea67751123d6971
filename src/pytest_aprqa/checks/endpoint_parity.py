"""How far an endpoint is from a model of this machine: a lower bound, from what it tells.

An endpoint tells the log probabilities of its k most probable tokens and not a distribution. Over
the partition {those of the k that are one token here} and {all else} both sides' distributions are
known, and their Kullback-Leibler divergence is at most that of the whole ones (data processing
inequality; Cover and Thomas, Elements of Information Theory, 2.8). So it can refute, not prove.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.blank import blank_gate, crashed
from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.domain.evidence import Evidence, Outcome, VerdictRecord
from pytest_aprqa.domain.statistics import clopper_pearson
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.tolerance import KLD_CAP, LOGITS, OTHER_ENGINE, LogitTolerance
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from pytest_aprqa.domain.completion import Completion, TokenChoice, TokenLogprob
    from pytest_aprqa.domain.model import Quantization
    from pytest_aprqa.domain.model_gates import GateCase
    from pytest_aprqa.engines.engine import Engine

_OUTCOMES = {
    Ruling.CORROBORATED: Outcome.CORROBORATED,
    Ruling.FALSIFIED: Outcome.FALSIFIED,
    Ruling.INAPPLICABLE: Outcome.SKIPPED,
}
TOP = 20
"""Most log probabilities a token that OpenAI's chat completions tell; the endpoint's engine asks
for five where the server refuses twenty."""
FEWEST_POSITIONS = 32
"""Fewer say too little: one unsure position among them would decide."""
LEAST_LOGPROB = -50.0
"""Servers write -9999 or so for a probability that they do not know; this is e-22 already."""
ROUNDING = 1e-6
"""What is left for all other tokens is known no better: 1 less twenty float32 probabilities."""
ANCHORS = ("\n", ".", "a", "1", ")")
"""Texts before which a token's text is looked at: at the start of a text tokenizers add a space,
and after some texts they merge."""


@dataclass(frozen=True, slots=True)
class EndpointParity:
    """The verdict, and the numbers it rests on."""

    verdict: VerdictRecord
    measurements: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Seen:
    """What the compared positions showed."""

    klds: list[float] = field(default_factory=list)
    same_top: list[bool] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    """Prompts whose answers cannot be compared, and why."""
    told: int = 0
    mapped: int = 0


def parity_limit(quantization: Quantization | None) -> LogitTolerance:
    """What an endpoint with such weights may be off from the float model of this machine."""
    if quantization is None:
        return OTHER_ENGINE
    return LOGITS[quantization].widened_by(OTHER_ENGINE)


def compare_endpoint(
    endpoint: Engine,
    reference: Engine,
    prompts: Sequence[str],
    *,
    limit: LogitTolerance,
    max_tokens: int = 32,
    timeout_s: float = 60.0,
) -> EndpointParity:
    """An endpoint's greedy answers against the reference's distributions at the same places.

    Raises:
        EngineCrashed: one of them broke.
        InvalidRequest: the endpoint refuses a prompt.
    """
    tokens = _TokenIds(reference)
    seen = _Seen()
    for prompt in prompts:
        answer = endpoint.generate(
            GenerationRequest(
                prompt=prompt, max_tokens=max_tokens, timeout_s=timeout_s, top_logprobs=TOP
            )
        )
        if (reason := _compare_answer(prompt, answer, reference, tokens, seen)) is not None:
            seen.unusable.append(f"{one_line(prompt, limit=40)!r}: {reason}")
    return _judged(seen, limit)


def try_parity(
    case: GateCase, endpoint: Engine, reference: Engine, prompts: Sequence[str], item_id: str
) -> Evidence:
    """Evidence of `endpoint_parity`: the endpoint against the float model of this machine."""
    blank = blank_gate(case, item_id, Outcome.SKIPPED, "")
    limit = parity_limit(case.target.quantization)
    try:
        parity = compare_endpoint(endpoint, reference, prompts, limit=limit)
    except InvalidRequest as refused:
        reason = f"the endpoint cannot be asked: {refused}"
        return blank.model_copy(update={"reason": reason, "excused": True, "applicable": False})
    except EngineCrashed as crash:
        return crashed(blank, crash, endpoint)
    ruling = parity.verdict.ruling
    inapplicable = ruling is Ruling.INAPPLICABLE
    return blank.model_copy(
        update={
            "outcome": _OUTCOMES[ruling],
            "reason": parity.verdict.reason,
            "excused": inapplicable,
            "applicable": not inapplicable,
            "verdicts": (parity.verdict,),
            "measurements": dict(parity.measurements),
            "engine": {
                **endpoint.describe(),
                "reference": reference.describe()["engine"],
            },
        }
    )


def coarse_kld(log_p: np.ndarray[Any, Any], told: Mapping[int, float]) -> float:
    """KL(reference || endpoint) over the told tokens and all else, in nats; at least 0.

    `log_p` is the reference's log softmax [vocabulary] in float64, `told` the endpoint's log
    probability of each token id.
    """
    rest_p = rest_q = 1.0
    kld = 0.0
    for token_id, log_q in told.items():
        log_p_here = float(log_p[token_id])
        p = math.exp(log_p_here)
        rest_p -= p
        rest_q -= math.exp(log_q)
        kld += p * (log_p_here - log_q)
    # What is added makes the endpoint's share larger and hence the divergence smaller.
    rest_q = max(rest_q, 0.0) + ROUNDING
    if rest_p > 0:
        kld += rest_p * math.log(rest_p / rest_q)
    return max(kld, 0.0)


class _TokenIds:
    """Which one token of the reference a told token is."""

    def __init__(self, reference: Engine) -> None:
        self._reference = reference
        self._before = {anchor: reference.tokenize(anchor, special=False) for anchor in ANCHORS}
        self._known: dict[str, int | None] = {}

    def id_of(self, token: TokenLogprob) -> int | None:
        """Its id; None where that is not certain."""
        by_text = self._by_text(token.text)
        if token.token_id is None:
            return by_text
        return token.token_id if by_text in (None, token.token_id) else None

    def _by_text(self, text: str) -> int | None:
        if not text or "\ufffd" in text:
            return None
        if text not in self._known:
            self._known[text] = self._looked_up(text)
        return self._known[text]

    def _looked_up(self, text: str) -> int | None:
        found = set()
        for anchor, before in self._before.items():
            ids = self._reference.tokenize(anchor + text, special=False)
            if len(ids) == len(before) + 1 and ids[:-1] == before:
                found.add(ids[-1])
        return found.pop() if len(found) == 1 else None


def _compare_answer(
    prompt: str, answer: Completion, reference: Engine, tokens: _TokenIds, seen: _Seen
) -> str | None:
    """Compare the places of one answer; why none of them can be, else None."""
    if answer.finish_reason is FinishReason.TIMEOUT:
        return "no answer in time"
    if not answer.logprobs:
        return "no log probabilities are told"
    joined = "".join(choice.chosen.text for choice in answer.logprobs)
    if not joined.startswith(answer.text):
        return "the told tokens are not the answer's text (spaces or bytes are lost)"
    prompt_ids = _prompt_ids(prompt, answer.prompt_tokens, reference)
    if prompt_ids is None:
        return f"the server counts {answer.prompt_tokens} prompt tokens, the tokenizer here others"
    ids = [tokens.id_of(choice.chosen) for choice in answer.logprobs]
    # Behind a token that is not known here the contexts are no longer known to be the same.
    known = ids.index(None) + 1 if None in ids else len(ids)
    context = reference.context_length or math.inf
    known = min(known, int(min(context - len(prompt_ids) + 1, known)))
    if known < 1:
        return "it is longer than the context here"
    before = [token_id for token_id in ids[: known - 1] if token_id is not None]
    rows = reference.logits((*prompt_ids, *before))[len(prompt_ids) - 1 :]
    for choice, row in zip(answer.logprobs[:known], rows, strict=True):
        _compare_place(choice, row, tokens, seen)
    return None


def _prompt_ids(prompt: str, counted: int, reference: Engine) -> tuple[int, ...] | None:
    """The prompt's tokens, as many as the server counts (0: it does not say)."""
    for special in (True, False):
        ids = reference.tokenize(prompt, special=special)
        if ids and counted in (0, len(ids)):
            return ids
    return None


def _compare_place(
    choice: TokenChoice, row: np.ndarray[Any, Any], tokens: _TokenIds, seen: _Seen
) -> None:
    import numpy as np

    logits = row.astype(np.float64)
    log_p = logits - logits.max()
    log_p -= math.log(np.exp(log_p).sum())
    told = _told(choice, tokens, len(row))
    seen.told += len(choice.top)
    seen.mapped += len(told)
    seen.klds.append(min(coarse_kld(log_p, told), KLD_CAP))
    best = tokens.id_of(choice.top[0]) if choice.top else None
    if best is not None and best in told:
        seen.same_top.append(int(log_p.argmax()) == best)


def _told(choice: TokenChoice, tokens: _TokenIds, vocabulary: int) -> dict[int, float]:
    """The log probability of each token that is certain here; of two for one id neither is."""
    found: dict[int, float] = {}
    twice = set()
    for token in choice.top:
        token_id = tokens.id_of(token)
        if token_id is None or not 0 <= token_id < vocabulary or token.logprob < LEAST_LOGPROB:
            continue
        if token_id in found:
            twice.add(token_id)
        found[token_id] = min(token.logprob, 0.0)
    return {token_id: value for token_id, value in found.items() if token_id not in twice}


def _judged(seen: _Seen, limit: LogitTolerance) -> EndpointParity:
    positions = len(seen.klds)
    measured = {
        "positions": float(positions),
        "prompts_not_compared": float(len(seen.unusable)),
        "told_tokens_known": seen.mapped / seen.told if seen.told else 0.0,
    }
    if positions < FEWEST_POSITIONS:
        why = f"; {seen.unusable[0]}" if seen.unusable else ""
        told = f"{positions} positions can be compared, expected {FEWEST_POSITIONS}{why}"
        return EndpointParity(_verdict(Ruling.INAPPLICABLE, told), measured)
    kld = math.fsum(seen.klds) / positions
    same, of = sum(seen.same_top), len(seen.same_top)
    most_same = clopper_pearson(same, of)[1]
    measured |= {"lower_bound_kld": kld, "same_top1": same / of if of else 0.0}
    measured |= {"same_top1_positions": float(of)}
    told = (
        f"{positions} positions: KL at least {kld:.3g} (at most {limit.mean_kld:g}), same top "
        f"token at {same} of {of} (at least {limit.top1:.1%}); a lower bound: it can refute, not "
        "prove"
    )
    refuted = kld > limit.mean_kld or most_same < limit.top1
    ruling = Ruling.FALSIFIED if refuted else Ruling.CORROBORATED
    return EndpointParity(_verdict(ruling, told), measured)


def _verdict(ruling: Ruling, reason: str) -> VerdictRecord:
    return VerdictRecord(oracle="endpoint_parity", ruling=ruling, reason=one_line(reason))
