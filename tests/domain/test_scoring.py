from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.model import Tier
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.scoring import (
    CATEGORY_POINTS,
    CERTIFYING_TIERS,
    Grade,
    Status,
    category_points,
    grade_from_score,
    grade_from_tier,
    missed_threshold,
    score_from_tier,
    status_from_score,
    status_from_tier,
)

FEEDBACK_TIERS = [Tier.SMOKE, Tier.QUICK, Tier.STANDARD]
MVP, DEEP = Tier.MVP, Tier.DEEP


@pytest.mark.parametrize(
    ("lowest", "highest", "grade", "status"),
    [
        (950, 1000, "A+", "CERTIFIED"),
        (900, 949, "A", "CERTIFIED"),
        (850, 899, "B+", "CERTIFIED"),
        (800, 849, "B", "PROVISIONAL"),
        (700, 799, "C", "PROVISIONAL"),
        (0, 699, "F", "BLOCKED"),
    ],
)
def test_every_score_has_the_grade_and_status_of_its_row(
    lowest: int, highest: int, grade: str, status: str
) -> None:
    found = {(grade_from_score(p), status_from_score(p)) for p in range(lowest, highest + 1)}
    assert found == {(Grade(grade), Status(status))}


@pytest.mark.parametrize(
    ("points", "grade"),
    [
        (0, "F"),
        (699, "F"),
        (700, "C"),
        (799, "C"),
        (800, "B"),
        (849, "B"),
        (850, "B+"),
        (899, "B+"),
        (900, "A"),
        (949, "A"),
        (950, "A+"),
        (1000, "A+"),
    ],
)
def test_a_border_score_belongs_to_the_row_it_opens_or_closes(points: int, grade: str) -> None:
    assert grade_from_score(points) == grade


@pytest.mark.parametrize("points", [-1, 1001, 10_000])
def test_a_grade_of_no_score_is_refused(points: int) -> None:
    with pytest.raises(ValueError, match=rf"^a score lies in 0 to 1000, got {points}$"):
        grade_from_score(points)


@pytest.mark.parametrize("p0_failed", [False, True])
@pytest.mark.parametrize("points", [-1, 1001])
def test_a_status_of_no_score_is_refused(points: int, p0_failed: bool) -> None:
    with pytest.raises(ValueError, match=rf"^a score lies in 0 to 1000, got {points}$"):
        status_from_score(points, p0_failed=p0_failed)


@pytest.mark.parametrize("points", [0, 700, 850, 1000])
def test_a_falsified_p0_blocks_whatever_the_score(points: int) -> None:
    assert status_from_score(points, p0_failed=True) is Status.BLOCKED


@pytest.mark.parametrize(
    ("tier", "rate", "p0", "score", "grade", "status"),
    [
        (MVP, 1.00, False, 800, "B", "PROVISIONAL"),
        (MVP, 0.95, False, 800, "B", "PROVISIONAL"),
        (MVP, 0.90, False, 800, "B", "PROVISIONAL"),
        (MVP, 0.8999, False, 629, "F", "BLOCKED"),
        (MVP, 0.85, False, 594, "F", "BLOCKED"),
        (MVP, 0.50, False, 349, "F", "BLOCKED"),
        (MVP, 0.99, True, 692, "F", "BLOCKED"),
        (MVP, 1.00, True, 699, "F", "BLOCKED"),
        (MVP, -1, False, 0, "F", "BLOCKED"),
        (DEEP, 1.00, False, 1000, "A+", "CERTIFIED"),
        (DEEP, 0.98, False, 980, "A+", "CERTIFIED"),
        (DEEP, 0.97, False, 970, "A+", "CERTIFIED"),
        (DEEP, 0.96, False, 960, "A+", "CERTIFIED"),
        (DEEP, 0.95, False, 950, "A+", "CERTIFIED"),
        (DEEP, Fraction(27, 28), False, 964, "A+", "CERTIFIED"),
        (DEEP, 0.9643, False, 964, "A+", "CERTIFIED"),
        (DEEP, 0.949, False, 897, "B+", "PROVISIONAL"),
        (DEEP, Fraction(17, 18), False, 888, "B+", "PROVISIONAL"),
        (DEEP, 0.9444, False, 887, "B+", "PROVISIONAL"),
        (DEEP, Fraction(25, 27), False, 851, "B+", "PROVISIONAL"),
        (DEEP, 0.9259, False, 851, "B+", "PROVISIONAL"),
        (DEEP, 0.925, False, 849, "B", "PROVISIONAL"),
        (DEEP, 0.92, False, 839, "B", "PROVISIONAL"),
        (DEEP, 0.90, False, 800, "B", "PROVISIONAL"),
        (DEEP, 0.85, False, 594, "F", "BLOCKED"),
        (DEEP, Fraction(16, 18), False, 621, "F", "BLOCKED"),
        (DEEP, 16 / 18, False, 621, "F", "BLOCKED"),
        (DEEP, 1.0, True, 699, "F", "BLOCKED"),
        (DEEP, 1.7, True, 699, "F", "BLOCKED"),
        (DEEP, 1.7, False, 1000, "A+", "CERTIFIED"),
    ],
)
def test_a_tiers_pass_rate_has_this_score_grade_and_status(
    tier: Tier, rate: Fraction | float, p0: bool, score: int, grade: str, status: str
) -> None:
    found = (
        score_from_tier(tier, rate, p0_failed=p0),
        grade_from_tier(tier, rate, p0_failed=p0),
        status_from_tier(tier, rate, p0_failed=p0),
    )
    assert found == (score, Grade(grade), Status(status))


@pytest.mark.parametrize("hundredths", range(101))
def test_a_decimal_float_scores_as_the_fraction_it_is_written_for(hundredths: int) -> None:
    as_float = float(f"{hundredths / 100:.2f}")
    as_fraction = Fraction(hundredths, 100)
    for tier in CERTIFYING_TIERS:
        assert score_from_tier(tier, as_float) == score_from_tier(tier, as_fraction)


@pytest.mark.parametrize("rate", [0.89999999, Fraction(899_999_999, 1_000_000_000)])
def test_a_rate_just_below_the_threshold_does_not_pass(rate: float | Fraction) -> None:
    assert (score_from_tier(MVP, rate), status_from_tier(MVP, rate)) == (629, Status.BLOCKED)


@pytest.mark.parametrize("call", [score_from_tier, grade_from_tier, status_from_tier])
@pytest.mark.parametrize("tier", FEEDBACK_TIERS)
def test_a_feedback_tier_has_no_tier_score(tier: Tier, call: object) -> None:
    assert callable(call)
    with pytest.raises(
        ValueError, match=rf"^tier {tier} is feedback and has no tier score; score its categories$"
    ):
        call(tier, 1.0)


def test_only_mvp_and_deep_certify() -> None:
    assert set(Tier) - set(CERTIFYING_TIERS) == set(FEEDBACK_TIERS)


@pytest.mark.parametrize(
    ("tier", "rate", "words"),
    [
        (MVP, 0.89, "tier mvp takes 90% for PROVISIONAL"),
        (MVP, 0.9, None),
        (DEEP, 0.89, "tier deep takes 90% for PROVISIONAL"),
        (DEEP, 0.94, "tier deep takes 95% for CERTIFIED"),
        (DEEP, 0.95, None),
    ],
)
def test_the_threshold_that_was_missed_is_told(tier: Tier, rate: float, words: str | None) -> None:
    assert missed_threshold(tier, rate) == words


_tiers = st.sampled_from(CERTIFYING_TIERS)
_rates = st.fractions(0, 1, max_denominator=2000) | st.floats(-1, 2)


@given(_tiers, _rates, _rates, st.booleans())
def test_a_better_rate_never_scores_less(
    tier: Tier, first: Fraction | float, second: Fraction | float, p0: bool
) -> None:
    low, high = sorted((first, second))
    assert score_from_tier(tier, low, p0_failed=p0) <= score_from_tier(tier, high, p0_failed=p0)


@given(_tiers, _rates, st.booleans(), st.booleans())
def test_a_score_lies_in_0_to_1000(
    tier: Tier, rate: Fraction | float, gateways: bool, p0: bool
) -> None:
    assert 0 <= score_from_tier(tier, rate, gateways_passed=gateways, p0_failed=p0) <= 1000


@given(_tiers, st.fractions(0, 1).filter(lambda rate: rate < Fraction(9, 10)))
def test_below_the_threshold_the_score_is_699_at_most(tier: Tier, rate: Fraction) -> None:
    assert score_from_tier(tier, rate) <= 699
    assert status_from_tier(tier, rate) is Status.BLOCKED


@given(_tiers, _rates, st.booleans())
def test_a_failed_gateway_zeroes_the_score(tier: Tier, rate: Fraction | float, p0: bool) -> None:
    assert score_from_tier(tier, rate, gateways_passed=False, p0_failed=p0) == 0
    assert grade_from_tier(tier, rate, gateways_passed=False, p0_failed=p0) is Grade.F
    assert status_from_tier(tier, rate, gateways_passed=False, p0_failed=p0) is Status.BLOCKED


@given(_tiers, _rates)
def test_a_falsified_p0_never_scores_700(tier: Tier, rate: Fraction | float) -> None:
    assert score_from_tier(tier, rate, p0_failed=True) < 700
    assert status_from_tier(tier, rate, p0_failed=True) is Status.BLOCKED


@given(_rates, st.booleans(), st.booleans())
def test_mvp_never_certifies(rate: Fraction | float, gateways: bool, p0: bool) -> None:
    status = status_from_tier(MVP, rate, gateways_passed=gateways, p0_failed=p0)
    assert status is not Status.CERTIFIED


@given(_tiers, _rates)
def test_a_tiers_status_claims_no_more_than_its_score(tier: Tier, rate: Fraction | float) -> None:
    order = [Status.BLOCKED, Status.PROVISIONAL, Status.CERTIFIED]
    claimed = status_from_tier(tier, rate)
    assert order.index(claimed) <= order.index(status_from_score(score_from_tier(tier, rate)))


@pytest.mark.parametrize(
    ("category", "maximum"),
    [("QUAL", 200), ("PERF", 150), ("STAB", 200), ("COMP", 150), ("EDGE", 150), ("REGR", 150)],
)
def test_a_flawless_category_earns_its_maximum(category: str, maximum: int) -> None:
    assert category_points(Category(category), 7, 7) == maximum


def test_the_categories_together_make_1000() -> None:
    assert sum(CATEGORY_POINTS.values()) == 1000


@pytest.mark.parametrize("category", Category)
def test_a_category_without_evidence_earns_nothing(category: Category) -> None:
    assert category_points(category, 0, 0) == 0


@pytest.mark.parametrize(("passed", "total", "points"), [(1, 3, 67), (1, 16, 13), (1, 400, 1)])
def test_half_a_point_is_rounded_up(passed: int, total: int, points: int) -> None:
    assert category_points(Category.QUAL, passed, total) == points
