from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest

from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.profile import (
    Estimate,
    Profile,
    RunTimes,
    estimate,
    profile_of,
    quantile,
    spread,
)

PROFILE = Profile(
    model="m",
    target="gguf-q8_0-cpu",
    engine="llama.cpp 1",
    device="cpu",
    host="here",
    prompt_tokens=5,
    asked_tokens=3,
    warmup=1,
    runs=(RunTimes(3, 0.1, 0.4, (0.1, 0.2, 0.4)), RunTimes(3, 0.1, 0.5, ())),
    prefill_tokens=64,
    prefill_s=(0.3,),
    memory_bytes=(100, 110, 120, 130, 140, 150),
)


def test_what_runs_show() -> None:
    assert PROFILE.gaps_ms == pytest.approx((100.0, 200.0, 200.0))
    assert PROFILE.throughputs == pytest.approx((7.5, 6.0))
    assert PROFILE.run_gaps_ms == pytest.approx((150.0, 200.0))
    assert PROFILE.ttfts_ms == pytest.approx((100.0, 100.0))
    assert PROFILE.memory_growth == pytest.approx(145 / 105 - 1)
    assert replace(PROFILE, memory_bytes=(5,)).memory_growth is None


def test_one_token_has_no_gap() -> None:
    assert RunTimes(1, 0.1, 0.1, (0.1,)).gaps_s == ()
    assert RunTimes(1, 0.1, 0.1, ()).gaps_s == ()


def test_a_profile_survives_json() -> None:
    assert profile_of(json.loads(json.dumps(PROFILE.as_json()))) == PROFILE


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": "aprqa-profile-9"}, "expected aprqa-profile-1"),
        ({"runs": None}, "no profile"),
        ({"more": 1}, "no profile"),
    ],
)
def test_what_is_no_profile_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(AprqaError, match=told):
        profile_of({**PROFILE.as_json(), **change})


def test_quantiles_are_joined_linearly() -> None:
    assert [quantile([4, 1, 3, 2], q) for q in (0, 0.5, 1)] == [1, 2.5, 4]
    assert quantile([7.0], 0.99) == 7.0


def test_the_interval_is_the_one_of_order_statistics() -> None:
    # For ten samples P(2nd < median < 9th) is 0.979, and P(3rd < median < 8th) only 0.891.
    found = estimate([float(i) for i in range(1, 11)])
    assert (found.value, found.low, found.high) == (5.5, 2.0, 9.0)


def test_few_samples_are_bounded_by_themselves() -> None:
    found = estimate([3.0, 1.0, 2.0])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    assert estimate([3.0]) == Estimate(3.0, 0.0, math.inf)
    with pytest.raises(ValueError, match="no samples"):
        estimate([])


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_the_interval_holds_the_truth_in_95_of_100_cases(q: float) -> None:
    source = random.Random(11)
    within = 0
    for _ in range(400):
        found = estimate([source.random() for _ in range(60)], q)
        within += found.low <= q <= found.high
    assert within >= 0.93 * 400


def test_the_spread_does_not_see_one_outlier() -> None:
    samples = [10.0, 10.1, 9.9, 10.0, 10.05, 9.95, 10.0, 500.0]
    assert spread(samples) < 0.02
    source = random.Random(5)
    normal = [source.gauss(100, 5) for _ in range(4000)]
    assert spread(normal) == pytest.approx(0.05, rel=0.05)
