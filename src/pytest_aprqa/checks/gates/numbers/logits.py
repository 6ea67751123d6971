"""Gates over teacher-forced logits: the target against the float32 ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.numbers.comparing import Estimate, Text, capped, ratio
from pytest_aprqa.checks.gates.numbers.passes import (
    ANSWER,
    Claim,
    Passes,
    decided,
    kld_limit,
    limit_of,
    passes,
)
from pytest_aprqa.checks.gates.numbers.reference import Led
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.tolerance import LATE_GROWTH, SURE_SIGMAS

_TOP = 5
_TIMEOUT_S = 120.0


def _family(domain: str) -> Family[TargetLab]:
    return Family(domain=domain, place=Place.TARGET, cost=Cost.LOGITS, rung=Rung.LOGITS)


FINITE = _family("logits")
DIVERGENCE = _family("logits")
CHOICE = _family("logits")
PROBABILITY = _family("logits")
SIZE = _family("logits")
GREEDY = _family("logits")


@FINITE.gate(
    "F-LOGIT-NAN-001",
    "Logits are numbers, one for each token of the vocabulary at each position.",
    severity=Severity.P0,
)
def are_numbers(lab: TargetLab) -> Finding:
    """No NaN, no infinity, and the ground truth's vocabulary."""
    seen = lab.once(passes)
    if seen.problem:
        return refuted(seen.problem)
    if not seen.texts:
        return undecided("there is no text to be led through")
    positions = sum(len(one.ids) for one in seen.led)
    return held(f"{positions} positions of {len(seen.texts)} texts")


def mean_kld(texts: Sequence[Text]) -> Estimate:
    """The mean divergence, none counted above KLD_CAP."""
    return ratio([capped(text) for text in texts])


KLD = Claim("logits_kld", "mean KL", mean_kld, lambda t, n: kld_limit(t.logits, n))
"""The mean divergence, and what it may be."""


@DIVERGENCE.gate(
    "F-LOGIT-KLD-001",
    "The distributions over tokens diverge no more than the encoding explains, in the mean.",
    severity=Severity.P0,
)
def close_in_the_mean(lab: TargetLab) -> Finding:
    """KL(ground truth || target), in nats per position."""
    return decided(lab, KLD)


@DIVERGENCE.gate("F-LOGIT-TAIL-001", "No few positions diverge beyond all others.")
def close_everywhere(lab: TargetLab) -> Finding:
    """One broken special token does not show in a mean; says where the worst position is."""
    import numpy as np

    seen = lab.once(passes)
    if seen.problem or not seen.counting:
        return undecided(f"there are no logits to compare: {seen.problem or 'no text counts'}")
    limit = limit_of(lab).tail_kld
    tail = float(np.quantile(np.concatenate([t.kld for t in seen.counting]), 0.999))
    one, text = max(
        ((o, t) for o, t in zip(seen.led, seen.texts, strict=True) if len(t.kld)),
        key=lambda pair: float(pair[1].kld.max()),
    )
    place = int(np.nonzero(one.judged)[0][int(text.kld.argmax())])
    measured = {"kld_tail": tail, "kld_tail_limit": limit}
    told = f"99.9 % of {seen.positions} positions are within {tail:.3g} nats"
    if not tail <= limit:
        where = f"the worst is position {place} of a text, after token {one.ids[place]}"
        return refuted(f"{told}; expected {limit:g}; {where}", measured=measured)
    return held(f"{told}, at most {limit:g}", measured=measured)


def _late(texts: Sequence[Text]) -> Estimate:
    """Divergence of the second halves, less LATE_GROWTH times that of the first."""
    import numpy as np

    differences, counts = [], []
    for text in texts:
        kld, half = capped(text), len(text.kld) // 2
        if half:
            late, early = float(kld[-half:].sum()), float(kld[:half].sum())
            differences.append(np.array([late - LATE_GROWTH * early]))
            counts.append(np.array([float(half)]))
    return ratio(differences, counts)


@DIVERGENCE.gate("F-LOGIT-DRIFT-001", "Late positions diverge about as little as early ones.")
def does_not_drift(lab: TargetLab) -> Finding:
    """A wrong rope or a cache that decays costs more the longer a text gets."""
    told = f"KL of second halves less {LATE_GROWTH:g} times that of first halves is"
    return decided(lab, replace(KLD, name="kld_drift", told=told, number=_late))


@CHOICE.gate("F-LOGIT-TOP1-001", "The most probable token is the ground truth's.")
def same_choice(lab: TargetLab) -> Finding:
    """As often as the encoding allows."""
    claim = Claim(
        "logits_top1",
        "share of same top tokens",
        lambda texts: ratio([text.same for text in texts]),
        lambda tolerance, noise: tolerance.logits.top1,
        least=True,
    )
    return decided(lab, claim)


def sure(lab: TargetLab, one: Led) -> float:
    """How far the first logit is above the second where no allowed error can change it."""
    values = one.values - one.values.mean(axis=1, keepdims=True)
    return SURE_SIGMAS * math.sqrt(2 * limit_of(lab).nmse * float((values**2).mean()))


@CHOICE.gate(
    "F-CONV-015",
    "After each prompt the most probable token is the ground truth's, where that is sure.",
    severity=Severity.P0,
    applies="the ground truth is sure of its first token after some prompt",
)
def same_first_token(lab: TargetLab) -> Finding:
    """The first token decides how an answer begins."""
    seen = lab.once(passes)
    if seen.problem:
        return undecided(f"there are no logits to compare: {seen.problem}")
    asked = 0
    for prompt, one, text in zip(lab.prompts, seen.led, seen.texts, strict=False):
        place = one.prompt - 1
        if one.margins()[place] < sure(lab, one):
            continue
        asked += 1
        ours, theirs = int(text.best[place]), int(one.best[place])
        if ours != theirs:
            return refuted(
                f"after {prompt!r:.60} the most probable token is {ours}; expected {theirs}, of "
                f"which the ground truth is sure by {one.margins()[place]:.1f}"
            )
    if not asked:
        return without_meaning("the ground truth is sure of no first token, for this encoding")
    return held(f"the same after {asked} of {len(lab.prompts)} prompts; of the others none is sure")


def _rms(texts: Sequence[Text]) -> Estimate:
    found = ratio([text.change**2 for text in texts])
    return Estimate(*(math.sqrt(n) for n in (found.value, found.low, found.high)))


@PROBABILITY.gate("F-LOGIT-DP-001", "The text's tokens keep their probabilities.")
def same_probabilities(lab: TargetLab) -> Finding:
    """The root mean square of their changes."""
    claim = Claim("probability_rms", "RMS change of p", _rms, lambda t, n: t.probability)
    return decided(lab, claim)


def _perplexity(texts: Sequence[Text]) -> Estimate:
    found = ratio([text.cost for text in texts])
    return Estimate(*(math.exp(n) for n in (found.value, found.low, found.high)))


@PROBABILITY.gate("F-PAR-003", "Perplexity is hardly above the ground truth's.")
def same_perplexity(lab: TargetLab) -> Finding:
    """Their ratio over the same tokens."""
    claim = Claim("perplexity_ratio", "perplexity ratio", _perplexity, lambda t, n: t.perplexity)
    return decided(lab, claim)


@SIZE.gate("F-LOGIT-NMSE-001", "All logits are near the ground truth's, likely or not.")
def near_in_square(lab: TargetLab) -> Finding:
    """Unlikely tokens too, which divergences hardly see."""

    def nmse(texts: Sequence[Text]) -> Estimate:
        return ratio([text.error for text in texts], [text.power for text in texts])

    return decided(lab, Claim("logits_nmse", "NMSE", nmse, lambda t, n: t.nmse))


@SIZE.gate("F-LOGIT-SCALE-001", "Logits are not scaled as a whole.")
def not_scaled(lab: TargetLab) -> Finding:
    """As by a temperature, or a multiplier of the head that is left out or used twice."""

    def off(texts: Sequence[Text]) -> Estimate:
        found = ratio([t.product for t in texts], [t.power for t in texts])
        low, high = found.low - 1, found.high - 1
        least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
        return Estimate(abs(found.value - 1), least, max(abs(low), abs(high)))

    return decided(lab, Claim("scale_off", "scale off by", off, lambda t, n: t.scale))


@GREEDY.gate(
    "F-HFP-002",
    "Greedy answers are the ground truth's, or part from it where both find both likely.",
    rung=Rung.TEXT,
    cost=Cost.ANSWERS,
)
def same_answers(lab: TargetLab) -> Finding:
    """At the first different token each side's is among the other's five most probable."""
    seen = lab.once(passes)
    if seen.problem:
        return undecided(f"there are no logits to compare: {seen.problem}")
    parted = [_parted(lab, seen, i) for i in range(len(lab.prompts))]
    wrong = [told for told in parted if told]
    allowed = (1 - limit_of(lab).logits.top1) * len(parted)
    if len(wrong) > allowed:
        return refuted(f"{len(wrong)} of {len(parted)} answers part; {wrong[0]}", details=wrong)
    return held(f"{len(parted) - len(wrong)} of {len(parted)} answers equal or close")


def _parted(lab: TargetLab, seen: Passes, index: int) -> str:
    """Where an answer leaves the ground truth's without being close; empty where it does not."""
    one, text = seen.led[index], seen.texts[index]
    theirs = one.ids[one.prompt :]
    request = GenerationRequest(
        prompt_token_ids=one.ids[: one.prompt], max_tokens=ANSWER, timeout_s=_TIMEOUT_S
    )
    ours = lab.engine.generate(request).token_ids
    both = zip(ours, theirs, strict=False)
    common = next((i for i, (a, b) in enumerate(both) if a != b), None)
    if common is None:
        return "" if ours or not theirs else f"{lab.prompts[index]!r:.60} is answered with nothing"
    place = one.prompt - 1 + common
    near = ours[common] in one.top(place, _TOP) and theirs[common] in text.tops[place]
    told = f"after {lab.prompts[index]!r:.60} and {common} tokens comes {ours[common]}; expected "
    return "" if near else f"{told}{theirs[common]}, or one of the five most probable"


FAMILIES = (FINITE, DIVERGENCE, CHOICE, PROBABILITY, SIZE, GREEDY)
ALIASES = {
    "F-PARITY-001": "F-CONV-015",
    "F-CONV-INF-002": "F-CONV-015",
    "F-CONV-INF-003": "F-CONV-015",
    "F-INTEG-006": "F-CONV-015",
    "F-CONV-SEMANTIC-001": "F-HFP-002",
}
