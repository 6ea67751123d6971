"""The tables of tolerances: complete, and never stricter for a coarser quantization."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.domain.tolerance import (
    APR_LOGITS,
    APR_STEPS,
    EXACT,
    FOREIGN_TOKENS,
    GAIN,
    KLD_CAP,
    LOGITS,
    OFFSET_NORM,
    OTHER_ENGINE,
    SAME_BLOCKS,
    SAME_VALUES,
    WEIGHT_NMSE,
    LogitTolerance,
    Tolerance,
)

COARSER = (
    Quantization.F32,
    Quantization.F16,
    Quantization.BF16,
    Quantization.Q8_0,
    Quantization.Q6_K,
    Quantization.Q5_K_M,
    Quantization.Q5_0,
    Quantization.Q4_K_M,
    Quantization.Q4_0,
    Quantization.Q3_K_M,
    Quantization.Q2_K,
)
"""Every quantization, each with no more bits or a simpler code than the one before."""
LIMITS = [*LOGITS.values(), *APR_LOGITS.values(), SAME_VALUES, OTHER_ENGINE, SAME_BLOCKS]


def test_every_quantization_has_its_limits() -> None:
    assert set(COARSER) == set(Quantization) == set(WEIGHT_NMSE) == set(LOGITS)
    assert set(APR_LOGITS) == set(APR_STEPS)


@pytest.mark.parametrize(("finer", "coarser"), list(pairwise(COARSER)))
def test_a_coarser_quantization_may_cost_more(finer: Quantization, coarser: Quantization) -> None:
    assert WEIGHT_NMSE[finer] < WEIGHT_NMSE[coarser]
    assert LOGITS[finer].mean_kld <= LOGITS[coarser].mean_kld
    assert LOGITS[finer].top1 >= LOGITS[coarser].top1


def test_aprs_own_codes_are_no_finer_than_ggmls() -> None:
    for quantization, limit in APR_LOGITS.items():
        assert limit.mean_kld >= LOGITS[quantization].mean_kld
        assert limit.top1 <= LOGITS[quantization].top1


@pytest.mark.parametrize("limit", LIMITS)
def test_no_limit_lets_everything_pass(limit: LogitTolerance) -> None:
    assert 0 < limit.mean_kld < 1
    assert 0.5 < limit.top1 < 1
    assert limit.nmse is None or 0 < limit.nmse < 1e-2


def test_equal_values_allow_less_than_any_quantization() -> None:
    for limit in (SAME_VALUES, OTHER_ENGINE):
        assert limit.mean_kld <= min(entry.mean_kld for entry in LOGITS.values())
        assert limit.top1 >= max(entry.top1 for entry in LOGITS.values())
    assert SAME_VALUES.nmse is not None
    assert OTHER_ENGINE.nmse is not None
    assert SAME_VALUES.nmse < OTHER_ENGINE.nmse
    assert SAME_VALUES.mean_kld < SAME_BLOCKS.mean_kld < LOGITS[Quantization.Q6_K].mean_kld


def test_exact_is_exact() -> None:
    assert EXACT.exact
    assert WEIGHT_NMSE[Quantization.F32] == 0
    assert not OFFSET_NORM.exact
    assert not Tolerance(0.0, 1e-6).exact
    assert 2.0**-24 <= OFFSET_NORM.atol < 1e-6
    assert OFFSET_NORM.rtol == 0


def test_the_gain_tells_a_scale_of_a_tenth_that_four_bits_would_hide() -> None:
    assert GAIN**2 < 0.1**2 < WEIGHT_NMSE[Quantization.Q4_K_M]


def test_no_single_position_of_a_hundred_decides() -> None:
    assert LOGITS[Quantization.Q6_K].mean_kld > KLD_CAP / 100


def test_foreign_tokens_are_the_exception() -> None:
    assert 20 / 251 < FOREIGN_TOKENS < 0.2
