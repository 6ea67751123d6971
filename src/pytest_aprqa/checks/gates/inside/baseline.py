"""Speed against a saved profile of the same target, engine and machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.inside.speed import (
    SECTION,
    at_least,
    at_most,
    baseline,
    over_profile,
)
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.profile import Estimate, Profile, estimate
from pytest_aprqa.domain.tolerance import LATENCY_GAIN, THROUGHPUT_LOSS

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE: Family[TargetLab] = Family(
    domain="speed-baseline",
    place=Place.TARGET,
    cost=Cost.TIMING,
    rung=Rung.SPEED,
    category=Category.PERF,
    section=SECTION,
)
_WHERE = "the playbook names a baseline of this target, engine and machine"
_SAME = ("model", "target", "engine", "device", "host", "prompt_tokens", "asked_tokens")
"""What must be the same for two profiles to be comparable."""


def _against_baseline(
    check: Callable[[Profile, Profile], Finding],
) -> Callable[[TargetLab], Finding]:
    @over_profile
    def checked(lab: TargetLab, profile: Profile) -> Finding:
        saved = lab.once(baseline)
        if saved is None:
            return without_meaning("the playbook names no baseline")
        for key in _SAME:
            then, now = getattr(saved, key), getattr(profile, key)
            if then != now:
                return without_meaning(f"the baseline's {key} is {then!r}, this one's {now!r}")
        return check(profile, saved)

    return checked


def ratio(now: Sequence[float], then: Sequence[float]) -> Estimate:
    """The median of one over the other's, and what the intervals of both allow."""
    a, b = estimate(now), estimate(then)
    least = 1e-12
    return Estimate(
        a.value / max(b.value, least), a.low / max(b.high, least), a.high / max(b.low, least)
    )


@BASELINE.gate("F-PROFILE-DIFF-001", "Throughput is not 5 % below the baseline's.", applies=_WHERE)
@_against_baseline
def not_slower(profile: Profile, saved: Profile) -> Finding:
    """Median throughput over the baseline's."""
    seen = ratio(profile.throughputs, saved.throughputs)
    return at_least(seen, 1 - THROUGHPUT_LOSS, "throughput is", "of the baseline's")


@BASELINE.gate(
    "F-PROFILE-DIFF-002",
    "A token does not take 10 % longer than in the baseline.",
    severity=Severity.P2,
    applies=_WHERE,
)
@_against_baseline
def tokens_not_later(profile: Profile, saved: Profile) -> Finding:
    """Median time of a token over the baseline's."""
    if not profile.gaps_ms or not saved.gaps_ms:
        return undecided("no run gave a second token: there is no time between tokens")
    seen = ratio(profile.gaps_ms, saved.gaps_ms)
    return at_most(seen, 1 + LATENCY_GAIN, "a token's time is", "of the baseline's")


@BASELINE.gate(
    "F-PROFILE-DIFF-003",
    "The first token does not take 10 % longer than in the baseline.",
    severity=Severity.P2,
    applies=_WHERE,
)
@_against_baseline
def first_not_later(profile: Profile, saved: Profile) -> Finding:
    """Median time to the first token over the baseline's."""
    seen = ratio(profile.ttfts_ms, saved.ttfts_ms)
    return at_most(seen, 1 + LATENCY_GAIN, "the first token's time is", "of the baseline's")


FAMILIES = (BASELINE,)
