"""Exact intervals for a pass rate."""

from __future__ import annotations

import math
from fractions import Fraction

_TOLERANCE = 1e-12
_NEGLIGIBLE = 1e-18


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval for a proportion (Clopper and Pearson, Biometrika 26, 1934).

    Returns (lower, upper) in 0..1; (0, 1) when there are no trials.

    Raises:
        ValueError: when not 0 <= successes <= trials, or confidence is not inside (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"need 0 <= successes <= trials, got {successes} of {trials}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie inside (0, 1), got {confidence}")
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    # P(X >= k | p) rises with p and equals 1 - P(X <= k - 1 | p).
    lower = 0.0 if successes == 0 else _solve(successes - 1, trials, 1 - tail)
    upper = 1.0 if successes == trials else _solve(successes, trials, tail)
    return lower, upper


def _solve(k: int, n: int, level: float) -> float:
    """The p at which P(X <= k) for X ~ Binomial(n, p) equals `level`, by bisection."""
    low, high = 0.0, 1.0
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        if binomial_cdf(k, n, middle) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p), from the tail that k is on."""
    if k < 0:
        return 0.0
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k <= n * p:
        return _lower_tail(k, n, p)
    return 1.0 - _lower_tail(n - k - 1, n, 1 - p)


def _lower_tail(k: int, n: int, p: float) -> float:
    """P(X <= k) for k up to the mean, where the terms shrink downwards until they add nothing.

    The first term is taken in logarithms, so that large n do not overflow.
    """
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = total = math.exp(log_ways + k * math.log(p) + (n - k) * math.log1p(-p))
    for i in range(k, 0, -1):
        term *= i * (1 - p) / ((n - i + 1) * p)
        total += term
        if term <= total * _NEGLIGIBLE:
            break
    return min(1.0, total)


def exact(rate: Fraction | float | int) -> Fraction:
    """A rate as a fraction, so that 0.95 is 19/20 and not the nearest binary number.

    A float that no fraction with a denominator up to a million stands for is taken as it is:
    0.89999999 stays below 0.9.
    """
    if isinstance(rate, float):
        simple = Fraction(rate).limit_denominator(1_000_000)
        return simple if float(simple) == rate else Fraction(rate)
    return Fraction(rate)
