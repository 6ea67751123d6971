"""Speed and memory of a target, warmed up and repeated, against a playbook's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.profile import Subject, measure, read_profile
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Backend, Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.profile import Estimate, Profile, estimate, quantile, spread
from pytest_aprqa.domain.tolerance import (
    LATE_TOKENS,
    PREFILL_SHARE,
    STEADY_SPREAD,
    WILD_SPREAD,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECTION = "profile_ci"
SPEED: Family[TargetLab] = Family(
    domain="speed",
    place=Place.TARGET,
    cost=Cost.TIMING,
    rung=Rung.SPEED,
    category=Category.PERF,
    section=SECTION,
)
_LIMIT = "the playbook sets a limit in profile_ci.assertions"


def profiled(lab: TargetLab) -> Profile:
    """The target's repeated runs, by the section's settings.

    Raises:
        InvalidRequest: the model cannot be asked this.
        EngineCrashed: the engine broke.
    """
    section = lab.sections.profile_ci
    subject = Subject(lab.target.model_id, lab.target.name)
    saved = lab.once(baseline)
    return measure(
        lab.engine,
        subject,
        lab.prompts[0],
        warmup=section.warmup,
        measured=section.measure,
        tokens=saved.asked_tokens if saved else None,
    )


def baseline(lab: TargetLab) -> Profile | None:
    """The saved profile that the section names; None where it names none.

    A directory holds one for each target, `safetensors-cpu.json` say.

    Raises:
        AprqaError: it cannot be read.
    """
    named = lab.sections.profile_ci.baseline
    if named is None:
        return None
    path = lab.model.beside(named)
    return read_profile(path / f"{lab.target.name}.json" if path.is_dir() else path)


def over_profile(
    check: Callable[[TargetLab, Profile], Finding],
) -> Callable[[TargetLab], Finding]:
    """Give a check the shared runs, where the section wants this target measured."""

    def checked(lab: TargetLab) -> Finding:
        section = lab.sections.profile_ci
        if lab.format not in section.formats or lab.backend not in section.backends:
            return without_meaning(f"profile_ci does not measure {lab.target.name}")
        return check(lab, lab.once(profiled))

    return checked


def at_most(seen: Estimate, limit: float, what: str, unit: str) -> Finding:
    """Held when the whole interval is within the limit, refuted when all of it is beyond."""
    told = f"{what} {seen.value:.4g} {unit} ({seen.low:.4g} to {seen.high:.4g})"
    measured = {"value": seen.value, "low": seen.low, "high": seen.high, "limit": limit}
    if seen.low > limit:
        return refuted(f"{told}; expected at most {limit:g} {unit}", measured=measured)
    if seen.high > limit:
        return undecided(
            f"{told}: the limit of {limit:g} {unit} lies within what the repeats allow",
            measured=measured,
        )
    return held(f"{told}, within {limit:g} {unit}", measured=measured)


def at_least(seen: Estimate, limit: float, what: str, unit: str) -> Finding:
    """Held when the whole interval reaches the limit, refuted when none of it does."""
    told = f"{what} {seen.value:.4g} {unit} ({seen.low:.4g} to {seen.high:.4g})"
    measured = {"value": seen.value, "low": seen.low, "high": seen.high, "limit": limit}
    if seen.high < limit:
        return refuted(f"{told}; expected at least {limit:g} {unit}", measured=measured)
    if seen.low < limit:
        return undecided(
            f"{told}: the limit of {limit:g} {unit} lies within what the repeats allow",
            measured=measured,
        )
    return held(f"{told}, at least {limit:g} {unit}", measured=measured)


@SPEED.gate(
    "F-PROFILE-CI-001", "The target generates as many tokens a second as asked.", applies=_LIMIT
)
@over_profile
def fast_enough(lab: TargetLab, profile: Profile) -> Finding:
    """Median throughput of the runs."""
    limits = lab.sections.profile_ci.assertions
    own = limits.min_throughput_cpu if lab.backend is Backend.CPU else limits.min_throughput_gpu
    limit = limits.min_throughput if own is None else own
    if limit is None:
        return without_meaning("the playbook sets no least throughput")
    return at_least(estimate(profile.throughputs), limit, "median throughput", "tokens/s")


@SPEED.gate(
    "F-PROFILE-CI-002", "The 99th percentile of a token's time is within its limit.", applies=_LIMIT
)
@over_profile
def rarely_slow(lab: TargetLab, profile: Profile) -> Finding:
    """Over all tokens after each run's first."""
    limit = lab.sections.profile_ci.assertions.max_p99_ms
    if limit is None:
        return without_meaning("the playbook sets no limit for the 99th percentile")
    return _token_time(profile, 0.99, limit, "99th percentile of a token's time")


@SPEED.gate(
    "F-PROFILE-CI-003",
    "The median time of a token is within its limit.",
    severity=Severity.P2,
    applies=_LIMIT,
)
@over_profile
def mostly_quick(lab: TargetLab, profile: Profile) -> Finding:
    """Over all tokens after each run's first."""
    limit = lab.sections.profile_ci.assertions.max_p50_ms
    if limit is None:
        return without_meaning("the playbook sets no limit for the median")
    return _token_time(profile, 0.5, limit, "median time of a token")


def _token_time(profile: Profile, q: float, limit: float, what: str) -> Finding:
    if not profile.gaps_ms:
        return undecided("no run gave a second token: there is no time between tokens")
    return at_most(estimate(profile.gaps_ms, q), limit, what, "ms")


@SPEED.gate(
    "F-PERF-002", "The first token is there within its limit.", severity=Severity.P2, applies=_LIMIT
)
@over_profile
def begins_in_time(lab: TargetLab, profile: Profile) -> Finding:
    """Median time to the first token."""
    limit = lab.sections.profile_ci.assertions.max_ttft_ms
    if limit is None:
        return without_meaning("the playbook sets no limit for the first token")
    return at_most(estimate(profile.ttfts_ms), limit, "median time to the first token", "ms")


@SPEED.gate(
    "F-PERF-003",
    "Memory does not grow over repeated requests.",
    severity=Severity.P2,
    applies=_LIMIT,
)
@over_profile
def memory_stays(lab: TargetLab, profile: Profile) -> Finding:
    """Growth from the first third of the runs to the last, as a share."""
    limit = lab.sections.profile_ci.assertions.max_memory_growth
    if limit is None:
        return without_meaning("the playbook sets no limit for the growth of memory")
    growth = profile.memory_growth
    if growth is None:
        return without_meaning(f"{lab.engine.name} tells no process whose memory could be seen")
    measured = {"growth": growth}
    if growth > limit:
        return refuted(
            f"memory grew by {growth:.2%} over {len(profile.runs)} runs; expected at most "
            f"{limit:.2%}",
            measured=measured,
        )
    return held(f"memory grew by {growth:.2%} over {len(profile.runs)} runs", measured=measured)


@SPEED.gate("F-BENCH-003", "Repeated runs are about equally fast.", severity=Severity.P2)
@over_profile
def runs_are_alike(_lab: TargetLab, profile: Profile) -> Finding:
    """The spread of each run's median token time; a busy machine decides nothing."""
    if len(profile.run_gaps_ms) < 4:
        return without_meaning(f"{len(profile.runs)} runs show no spread")
    seen = spread(profile.run_gaps_ms)
    measured = {"spread": seen}
    if seen > WILD_SPREAD:
        return refuted(
            f"the runs' median token time varies by {seen:.0%}; expected at most "
            f"{STEADY_SPREAD:.0%}",
            measured=measured,
        )
    if seen > STEADY_SPREAD:
        return undecided(
            f"the runs' median token time varies by {seen:.0%}: the machine is too busy to tell",
            measured=measured,
        )
    return held(f"the runs' median token time varies by {seen:.1%}", measured=measured)


@SPEED.gate("F-PROFILE-CI-004", "Every measured run did the work that was asked.")
@over_profile
def runs_do_the_work(_lab: TargetLab, profile: Profile) -> Finding:
    """As many tokens as asked, and times in order: else the other numbers mean nothing."""
    for number, run in enumerate(profile.runs, 1):
        if run.tokens != profile.asked_tokens:
            return refuted(
                f"run {number} generated {run.tokens} tokens; expected {profile.asked_tokens}"
            )
        if not 0 < run.ttft_s <= run.total_s or any(gap < 0 for gap in run.gaps_s):
            return refuted(
                f"run {number} tells times out of order: first token after {run.ttft_s:.4g} s, "
                f"end after {run.total_s:.4g} s"
            )
    if not profile.runs:
        return undecided("no run was measured")
    return held(f"{len(profile.runs)} runs of {profile.asked_tokens} tokens")


@SPEED.gate("F-PROFILE-CI-005", "Later tokens of an answer take about as long as its first ones.")
@over_profile
def no_slowdown(_lab: TargetLab, profile: Profile) -> Finding:
    """The last quarter of each run's tokens against its first: a cache makes a step's cost flat."""
    runs = [run.gaps_s for run in profile.runs if len(run.gaps_s) >= 7]
    if not runs:
        return without_meaning("the runs are too short, or the engine tells no token's time")
    quarter = len(runs[0]) // 4
    early = estimate([gap for gaps in runs for gap in gaps[:quarter]])
    late = estimate([gap for gaps in runs for gap in gaps[-quarter:]])
    ratio = Estimate(
        late.value / max(early.value, 1e-12),
        late.low / max(early.high, 1e-12),
        late.high / max(early.low, 1e-12),
    )
    return at_most(ratio, LATE_TOKENS, "the last quarter's tokens take", "times the first's")


@SPEED.gate(
    "F-PROFILE-CI-006",
    "A token of the prompt takes less than a generated one.",
    severity=Severity.P2,
)
@over_profile
def prompts_are_batched(_lab: TargetLab, profile: Profile) -> Finding:
    """The first token after a long prompt, by prompt token, against a generated token's median."""
    if not profile.gaps_ms or not profile.prefill_s:
        return undecided("no generated token, or no prompt, was timed")
    if profile.prefill_tokens < 16:
        return without_meaning(f"the longest prompt has {profile.prefill_tokens} tokens")
    step = estimate(profile.gaps_ms)
    best = 1e3 * min(profile.prefill_s) / profile.prefill_tokens
    middle = 1e3 * quantile(profile.prefill_s, 0.5) / profile.prefill_tokens
    ratio = Estimate(middle / step.value, best / step.high, middle / step.low)
    return at_most(
        ratio, PREFILL_SHARE, "a token of the prompt takes", "of a generated token's time"
    )


FAMILIES = (SPEED,)
ALIASES = {
    "F-PERF-001": "F-PROFILE-CI-001",
    "F-BENCH-001": "F-PROFILE-CI-004",
    "F-RUN-004": "F-PROFILE-CI-001",
    "F-CPU-001": "F-PROFILE-CI-001",
    "F-QA-003": "F-PROFILE-CI-001",
    "F-PROFILE-006": "F-PROFILE-CI-001",
    "F-PROFILE-008": "F-PROFILE-CI-002",
    "F-STAB-002": "F-PERF-003",
}
