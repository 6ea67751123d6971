"""A target's passes over the reference's texts, their limits, and how a number is decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.conversion_rungs import kl_divergence
from pytest_aprqa.checks.finding import Finding, held, refuted, undecided
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.numbers.comparing import Estimate, Text, compare
from pytest_aprqa.checks.gates.numbers.reference import Course, Led, led
from pytest_aprqa.checks.gates.numbers.texts import BASE, MORE, MORE_QUESTIONS, QUESTIONS
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.tolerance import (
    APR_LOGITS,
    LOGITS,
    NOISE_CEILING,
    NOISE_FACTOR,
    PARITY,
    ROUNDED_PARITY,
    LogitTolerance,
    ParityTolerance,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ANSWER = 24
"""Tokens of the ground truth's greedy answer to each prompt."""
_LEAST = 100
"""Positions that count, from which on anything is decided."""
_FLOATS = (None, Quantization.F32, Quantization.F16, Quantization.BF16)


@dataclass(frozen=True, slots=True)
class Passes:
    """The target's numbers beside the reference."""

    led: tuple[Led, ...]
    texts: tuple[Text, ...]
    """One for each that was led through; none where `problem` says why."""
    problem: str = ""
    """Logits that cannot be compared: not finite, or for another vocabulary."""
    noise: float = 0.0
    """Mean divergence of the target from itself, over one text whole and cut."""

    @property
    def counting(self) -> tuple[Text, ...]:
        """Texts of which positions count."""
        return tuple(text for text in self.texts if len(text.kld) and len(text.cost))

    @property
    def positions(self) -> int:
        """How many positions count."""
        return sum(len(text.kld) for text in self.counting)


def passes(lab: TargetLab) -> Passes:
    """Over the first texts: some 300 positions or more."""
    return through(lab, Course(lab.prompts, ANSWER, BASE, QUESTIONS, 300))


def more_passes(lab: TargetLab) -> Passes:
    """Over all texts: for where the first leave it undecided."""
    texts, questions = BASE + MORE, QUESTIONS + MORE_QUESTIONS
    return through(lab, Course(lab.prompts, ANSWER, texts, questions, 900))


def through(lab: TargetLab, course: Course) -> Passes:
    """The target led through a course, teacher-forced."""
    return along(lab, led(lab, course))


def along(lab: TargetLab, reference: Sequence[Led]) -> Passes:
    """The target led through a reference's texts."""
    import numpy as np

    texts, noise = [], None
    for one in reference:
        logits = lab.engine.logits(one.ids)
        if logits.shape != (len(one.ids), one.vocabulary):
            expected = [len(one.ids), one.vocabulary]
            problem = f"logits of the shape {list(logits.shape)}; expected {expected}"
            return Passes(tuple(reference), (), problem)
        wrong = ~np.isfinite(logits)
        if wrong.any():
            place, token = (int(n[0]) for n in np.nonzero(wrong))
            problem = f"{int(wrong.sum())} logits are NaN or infinite, the first at position "
            problem += f"{place} of {len(one.ids)}, token {token}"
            return Passes(tuple(reference), (), problem)
        texts.append(compare(one, logits))
        if noise is None and len(one.ids) > 7:
            half = len(one.ids) // 2
            noise = float(kl_divergence(logits[:half], lab.engine.logits(one.ids[:half])).mean())
    return Passes(tuple(reference), tuple(texts), "", noise or 0.0)


def limit_of(lab: TargetLab) -> ParityTolerance:
    """What the target may cost: its encoding, and at least its engine's arithmetic."""
    kind = lab.quantization
    row = PARITY[kind or Quantization.BF16]
    if kind is not None and lab.format is Format.APR and kind in APR_LOGITS:
        row = next(PARITY[k] for k, v in LOGITS.items() if v == APR_LOGITS[kind])
    by_blocks = lab.format is Format.GGUF and _in_blocks(lab)
    if by_blocks or str(lab.engine.describe().get("dtype", "")).endswith("bfloat16"):
        row = _wider(row, ROUNDED_PARITY)
    return row


def _in_blocks(lab: TargetLab) -> bool:
    return lab.quantization not in _FLOATS


def _wider(a: ParityTolerance, b: ParityTolerance) -> ParityTolerance:
    return ParityTolerance(
        a.logits.widened_by(b.logits),
        max(a.tail_kld, b.tail_kld),
        max(a.probability, b.probability),
        max(a.perplexity, b.perplexity),
        max(a.nmse, b.nmse),
        max(a.scale, b.scale),
    )


def kld_limit(limit: LogitTolerance, noise: float) -> float:
    """The limit, or NOISE_FACTOR times the target's own noise where that is noise."""
    floor = NOISE_FACTOR * noise if noise <= NOISE_CEILING else 0.0
    return max(limit.mean_kld, floor)


@dataclass(frozen=True, slots=True)
class Claim:
    """A number of all texts and what it may be."""

    name: str
    """Its name among the measurements."""
    told: str
    """What it is, in words."""
    number: Callable[[Sequence[Text]], Estimate]
    limit: Callable[[ParityTolerance, float], float]
    """From the tolerance and the target's noise."""
    least: bool = False
    """Whether the limit is the least it may be."""


def decided(lab: TargetLab, claim: Claim) -> Finding:
    """Refuted or held where the whole interval over texts says so; more texts where it does not."""
    found = undecided("nothing was measured")
    for measure in (passes, more_passes):
        seen = lab.once(measure)
        if seen.problem:
            return undecided(f"there are no logits to compare: {seen.problem}")
        if seen.positions < _LEAST:
            found = undecided(f"the ground truth can read only {seen.positions} positions")
            continue
        estimate = claim.number(seen.counting)
        limit = claim.limit(limit_of(lab), seen.noise)
        found = ruled(claim, estimate, limit, seen)
        if not found.reason.startswith(_OPEN):
            return found
    return found


_OPEN = "undecided: "


def ruled(claim: Claim, estimate: Estimate, limit: float, seen: Passes) -> Finding:
    """Refuted where the whole interval is beyond the limit, held where none of it is."""
    sign = -1.0 if claim.least else 1.0
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    bound = "at least" if claim.least else "at most"
    told = f"{claim.told} {estimate.value:.4g} (95 % of {estimate.low:.4g} to {estimate.high:.4g})"
    told += f" over {seen.positions} positions of {len(seen.counting)} texts"
    measured = {claim.name: estimate.value, f"{claim.name}_limit": limit}
    measured["positions"] = float(seen.positions)
    if not math.isfinite(estimate.value) or low > sign * limit:
        return refuted(f"{told}; expected {bound} {limit:.4g}", measured=measured)
    if high <= sign * limit:
        return held(f"{told}, {bound} {limit:.4g}", measured=measured)
    return undecided(f"{_OPEN}{told}; the limit is {limit:.4g}", measured=measured)
