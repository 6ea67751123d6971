"""Picking tokens from logits, and watching the tokens that were picked."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.engines.generation import Watch, picker


def _request(temperature: float = 0.0, seed: int = 0, **settings: float) -> GenerationRequest:
    return GenerationRequest(prompt="x", temperature=temperature, seed=seed, **settings)  # type: ignore[arg-type]


def _logits(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_greedy_is_the_first_maximum() -> None:
    assert picker(_request())(_logits(1, 3, 2, 3)) == 1
    assert picker(_request(1e-6))(_logits(-np.inf, -5, -np.inf)) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax(temperature: float) -> None:
    logits = _logits(0.0, 1.0, -1.0, 2.0)
    pick = picker(_request(temperature, seed=3))
    counts = np.bincount([pick(logits) for _ in range(4000)], minlength=4)
    expected = np.exp(logits / temperature)
    expected *= 4000 / expected.sum()
    # Pearson's statistic; 16.27 is the 0.999 quantile of chi-squared with 3 degrees of freedom.
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.27


def test_what_has_no_probability_is_never_drawn() -> None:
    pick = picker(_request(1.0))
    logits = _logits(-np.inf, 0, -np.inf, 0, -np.inf)
    assert {pick(logits) for _ in range(200)} == {1, 3}


def test_a_seed_fixes_the_draws() -> None:
    logits = np.zeros(1000, np.float32)

    def draws(seed: int) -> list[int]:
        pick = picker(_request(1.0, seed))
        return [pick(logits) for _ in range(5)]

    assert draws(1) == draws(1) != draws(2)
    assert draws(-1) == draws(2**63 - 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_is_refused(temperature: float) -> None:
    with pytest.raises(FloatingPointError, match=r"^the model's logits hold NaN$"):
        picker(_request(temperature))(_logits(0, np.nan))


@pytest.mark.parametrize("best", [np.inf, -np.inf])
def test_nothing_can_be_drawn_from_infinities(best: float) -> None:
    with pytest.raises(FloatingPointError, match=r"largest logit is -?inf: nothing to draw from"):
        picker(_request(1.0))(_logits(best, -np.inf))


def test_a_watch_that_is_cut_keeps_what_there_was() -> None:
    watch = Watch(
        _request(max_tokens=5), end_ids=frozenset({9}), text_of=lambda ids: "".join(map(str, ids))
    )
    watch.start()
    assert not watch.note(1)
    watch.cut()
    watch.stop()
    assert (watch.text(), watch.finish_reason) == ("1", FinishReason.TIMEOUT)
    assert watch.ttft_s is not None
    assert watch.total_s >= watch.ttft_s


def test_a_half_character_at_a_limit_is_cut_off() -> None:
    def text_of(ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    whole = Watch(_request(max_tokens=9), end_ids=frozenset({0}), text_of=text_of)
    whole.start()
    assert [whole.note(byte) for byte in ("é".encode() + b"\0")] == [False, False, True]
    assert (whole.text(), whole.finish_reason) == ("é", FinishReason.STOP)
    cut = Watch(_request(max_tokens=2), end_ids=frozenset(), text_of=text_of)
    cut.start()
    assert [cut.note(byte) for byte in (b"a" + "é".encode()[:1])] == [False, True]
    assert (cut.text(), cut.finish_reason) == ("a", FinishReason.LENGTH)
