from __future__ import annotations

import time
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.statistics import binomial_cdf, clopper_pearson, exact


@pytest.mark.parametrize(
    ("passed", "total", "lower", "upper"),
    [
        (9, 10, 0.555, 0.997),
        (10, 10, 0.692, 1),
        (27, 30, 0.735, 0.979),
        (52, 52, 0.932, 1),
        (90, 100, 0.824, 0.951),
        (95, 100, 0.887, 0.984),
        (190, 200, 0.910, 0.976),
        (920, 1000, 0.901, 0.936),
    ],
)
def test_the_interval_has_its_published_bounds(
    passed: int, total: int, lower: float, upper: float
) -> None:
    found = clopper_pearson(passed, total)
    assert tuple(round(bound, 3) for bound in found) == (lower, upper)


@pytest.mark.parametrize(
    ("passed", "total", "lower"),
    [
        (9, 10, 0.606),
        (10, 10, 0.741),
        (27, 30, 0.761),
        (52, 52, 0.944),
        (90, 100, 0.836),
        (95, 100, 0.898),
        (190, 200, 0.917),
        (920, 1000, 0.904),
    ],
)
def test_a_one_sided_bound_is_the_lower_end_of_the_90_percent_interval(
    passed: int, total: int, lower: float
) -> None:
    assert round(clopper_pearson(passed, total, confidence=0.90)[0], 3) == lower


@pytest.mark.parametrize(
    ("target", "failures", "smallest"),
    [
        (target, failures, n)
        for target, sizes in {
            0.80: (14, 22, 30, 37, 44, 50),
            0.90: (29, 46, 61, 76, 89, 103),
            0.95: (59, 93, 124, 153, 181, 208),
            0.99: (299, 473, 628, 773, 913, 1049),
            0.999: (2995, 4742),
        }.items()
        for failures, n in enumerate(sizes)
    ],
)
def test_so_many_trials_and_no_fewer_show_the_target_rate(
    target: float, failures: int, smallest: int
) -> None:
    def bound(n: int) -> float:
        return clopper_pearson(n - failures, n, confidence=0.90)[0]

    assert bound(smallest - 1) < target <= bound(smallest)


def test_no_trials_leave_everything_open() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("trials", [1, 2, 17, 1000])
def test_no_success_gives_the_lower_bound_0_and_the_upper_one_in_closed_form(trials: int) -> None:
    lower, upper = clopper_pearson(0, trials)
    assert lower == 0
    assert upper == pytest.approx(1 - 0.025 ** (1 / trials), abs=1e-9)


@pytest.mark.parametrize("trials", [1, 2, 17, 1000])
def test_all_successes_give_the_upper_bound_1_and_the_lower_one_in_closed_form(trials: int) -> None:
    lower, upper = clopper_pearson(trials, trials)
    assert upper == 1
    assert lower == pytest.approx(0.025 ** (1 / trials), abs=1e-9)


_trials = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(_trials)
def test_the_interval_of_the_failures_mirrors_that_of_the_successes(case: tuple[int, int]) -> None:
    passed, total = case
    lower, upper = clopper_pearson(passed, total)
    assert clopper_pearson(total - passed, total) == pytest.approx((1 - upper, 1 - lower), abs=1e-9)


@given(_trials)
def test_the_interval_holds_the_observed_rate(case: tuple[int, int]) -> None:
    passed, total = case
    lower, upper = clopper_pearson(passed, total)
    assert 0 <= lower <= passed / total <= upper <= 1


@given(_trials, st.floats(0.5, 0.98))
def test_more_confidence_never_narrows_the_interval(
    case: tuple[int, int], confidence: float
) -> None:
    lower, upper = clopper_pearson(*case, confidence=confidence)
    wider_lower, wider_upper = clopper_pearson(*case, confidence=confidence + 0.01)
    assert wider_lower <= lower
    assert upper <= wider_upper


@given(st.integers(1, 60), st.fractions(0, 1, max_denominator=200))
def test_the_interval_covers_the_true_rate_at_least_95_times_in_100(
    total: int, rate: Fraction
) -> None:
    covered = Fraction(0)
    for passed in range(total + 1):
        lower, upper = clopper_pearson(passed, total)
        if lower - 1e-9 <= rate <= upper + 1e-9:
            covered += comb(total, passed) * rate**passed * (1 - rate) ** (total - passed)
    assert covered >= Fraction(95, 100)


@pytest.mark.parametrize("passed", [0, 1, 50_000, 99_999, 100_000])
def test_a_hundred_thousand_trials_are_no_burden(passed: int) -> None:
    started = time.process_time()
    lower, upper = clopper_pearson(passed, 100_000)
    assert lower <= passed / 100_000 <= upper
    assert time.process_time() - started < 1.0


def test_a_hundred_thousand_trials_agree_with_the_normal_approximation() -> None:
    margin = 1.959964 * (0.9 * 0.1 / 100_000) ** 0.5
    assert clopper_pearson(90_000, 100_000) == pytest.approx((0.9 - margin, 0.9 + margin), abs=2e-5)


@pytest.mark.parametrize(("passed", "total"), [(-1, 10), (11, 10), (0, -1)])
def test_impossible_counts_are_refused(passed: int, total: int) -> None:
    with pytest.raises(ValueError, match=rf"^need 0 <= successes <= trials, got {passed} of"):
        clopper_pearson(passed, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 95.0, float("nan")])
def test_a_confidence_outside_0_to_1_is_refused(confidence: float) -> None:
    with pytest.raises(
        ValueError, match=rf"^confidence must lie inside \(0, 1\), got {confidence}$"
    ):
        clopper_pearson(5, 10, confidence=confidence)


@given(
    st.integers(1, 80).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.fractions(0, 1, max_denominator=1000),
)
def test_the_cumulative_probability_is_the_sum_of_its_terms(
    case: tuple[int, int], p: Fraction
) -> None:
    k, n = case
    exactly = sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))
    assert binomial_cdf(k, n, float(p)) == pytest.approx(float(exactly), abs=1e-10)


@pytest.mark.parametrize(
    ("k", "p", "probability"),
    [(-1, 0.5, 0.0), (10, 0.5, 1.0), (11, 0.5, 1.0), (3, 0.0, 1.0), (3, 1.0, 0.0), (10, 1.0, 1.0)],
)
def test_the_cumulative_probability_has_its_borders(k: int, p: float, probability: float) -> None:
    assert binomial_cdf(k, 10, p) == probability


@pytest.mark.parametrize(
    ("rate", "fraction"),
    [
        (0.95, Fraction(19, 20)),
        (0.9, Fraction(9, 10)),
        (1 / 3, Fraction(1, 3)),
        (27 / 28, Fraction(27, 28)),
        (1.0, Fraction(1)),
        (1, Fraction(1)),
        (Fraction(3, 7), Fraction(3, 7)),
    ],
)
def test_a_float_is_the_simple_fraction_it_stands_for(
    rate: float | Fraction, fraction: Fraction
) -> None:
    assert exact(rate) == fraction


@pytest.mark.parametrize("rate", [0.8999999999, 0.94999999999, 0.9499999999999])
def test_a_float_just_below_a_threshold_stays_below(rate: float) -> None:
    assert exact(rate) < round(Fraction(rate), 2)


@given(st.integers(1, 1_000_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_quotient_of_counts_is_taken_back_exactly(case: tuple[int, int]) -> None:
    passed, total = case
    assert exact(passed / total) == Fraction(passed, total)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_float_is_never_a_smaller_fraction(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert exact(low) <= exact(high)
