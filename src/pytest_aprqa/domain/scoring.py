"""Score, grade and status: the only home of tier thresholds and of the grade map."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from math import floor

from pytest_aprqa.domain.model import Tier
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.statistics import exact


class Grade(StrEnum):
    """The letter of a score."""

    A_PLUS = "A+"
    A = "A"
    B_PLUS = "B+"
    B = "B"
    C = "C"
    F = "F"


class Status(StrEnum):
    """What the score allows to be said of the model."""

    CERTIFIED = "CERTIFIED"
    PROVISIONAL = "PROVISIONAL"
    BLOCKED = "BLOCKED"
    PENDING = "PENDING"
    """Nothing is certified: feedback, a partial run, or a narrowed scope."""


MAX_POINTS = 1000
CERTIFYING_TIERS = (Tier.MVP, Tier.DEEP)
"""The tiers whose pass certifies; the others give feedback."""

MVP_THRESHOLD = Fraction(90, 100)
MVP_POINTS = 800
DEEP_THRESHOLD = Fraction(95, 100)
DEEP_POINTS = 950
MAX_POINTS_BELOW_THRESHOLD = 699

_GRADE_MAP = (
    (950, Grade.A_PLUS, Status.CERTIFIED),
    (900, Grade.A, Status.CERTIFIED),
    (850, Grade.B_PLUS, Status.CERTIFIED),
    (800, Grade.B, Status.PROVISIONAL),
    (700, Grade.C, Status.PROVISIONAL),
    (0, Grade.F, Status.BLOCKED),
)

CATEGORY_POINTS = {
    Category.QUAL: 200,
    Category.PERF: 150,
    Category.STAB: 200,
    Category.COMP: 150,
    Category.EDGE: 150,
    Category.REGR: 150,
}
"""The most that each category of a feedback score can earn; together 1000."""


def grade_from_score(points: int) -> Grade:
    """The grade of a score of 0 to 1000 points."""
    return next(grade for floor_, grade, _ in _GRADE_MAP if _checked(points) >= floor_)


def status_from_score(points: int, *, p0_failed: bool = False) -> Status:
    """The status of a score of 0 to 1000 points; a falsified P0 blocks whatever the score."""
    status = next(status for floor_, _, status in _GRADE_MAP if _checked(points) >= floor_)
    return Status.BLOCKED if p0_failed else status


def score_from_tier(
    tier: Tier,
    pass_rate: Fraction | float,
    *,
    gateways_passed: bool = True,
    p0_failed: bool = False,
) -> int:
    """The score, 0 to 1000, of a run of a certifying tier with this pass rate (0 to 1).

    A failed gateway gives 0. Below the pass threshold, or with a falsified P0, the score is the
    pass rate's share of 699. Deep runs between 90 % and 95 % earn 800 to 899.

    Raises:
        ValueError: for a tier that certifies nothing.
    """
    _require_certifying(tier)
    rate = _rate(pass_rate)
    if not gateways_passed:
        return 0
    if p0_failed or rate < MVP_THRESHOLD:
        return floor(rate * MAX_POINTS_BELOW_THRESHOLD)
    if tier is Tier.MVP:
        return MVP_POINTS
    if rate >= DEEP_THRESHOLD:
        return DEEP_POINTS + floor((rate - DEEP_THRESHOLD) * 1000)
    return MVP_POINTS + floor((rate - MVP_THRESHOLD) / (DEEP_THRESHOLD - MVP_THRESHOLD) * 99)


def grade_from_tier(
    tier: Tier,
    pass_rate: Fraction | float,
    *,
    gateways_passed: bool = True,
    p0_failed: bool = False,
) -> Grade:
    """The grade of the tier's score; see `score_from_tier`."""
    return grade_from_score(
        score_from_tier(tier, pass_rate, gateways_passed=gateways_passed, p0_failed=p0_failed)
    )


def status_from_tier(
    tier: Tier,
    pass_rate: Fraction | float,
    *,
    gateways_passed: bool = True,
    p0_failed: bool = False,
) -> Status:
    """What a complete run of a certifying tier may claim: mvp PROVISIONAL at most.

    Raises:
        ValueError: for a tier that certifies nothing.
    """
    _require_certifying(tier)
    rate = _rate(pass_rate)
    if not gateways_passed or p0_failed or rate < MVP_THRESHOLD:
        return Status.BLOCKED
    if tier is Tier.DEEP and rate >= DEEP_THRESHOLD:
        return Status.CERTIFIED
    return Status.PROVISIONAL


def missed_threshold(tier: Tier, pass_rate: Fraction | float) -> str | None:
    """The next threshold of a certifying tier that a pass rate falls short of, in words.

    Raises:
        ValueError: for a tier that certifies nothing.
    """
    _require_certifying(tier)
    rate = _rate(pass_rate)
    if rate < MVP_THRESHOLD:
        return f"tier {tier} takes {float(MVP_THRESHOLD):.0%} for {Status.PROVISIONAL}"
    if tier is Tier.DEEP and rate < DEEP_THRESHOLD:
        return f"tier {tier} takes {float(DEEP_THRESHOLD):.0%} for {Status.CERTIFIED}"
    return None


def category_points(category: Category, passed: int, total: int) -> int:
    """A category's share of its maximum, halves rounded up; without evidence it earns nothing."""
    if total == 0:
        return 0
    return floor(Fraction(passed, total) * CATEGORY_POINTS[category] + Fraction(1, 2))


def _rate(pass_rate: Fraction | float) -> Fraction:
    return min(max(exact(pass_rate), Fraction(0)), Fraction(1))


def _checked(points: int) -> int:
    if not 0 <= points <= MAX_POINTS:
        raise ValueError(f"a score lies in 0 to {MAX_POINTS}, got {points}")
    return points


def _require_certifying(tier: Tier) -> None:
    if tier not in CERTIFYING_TIERS:
        raise ValueError(f"tier {tier} is feedback and has no tier score; score its categories")
