"""The lower bound of an endpoint's divergence: never above the whole one, and able to refute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.endpoint_parity import (
    EndpointParity,
    coarse_kld,
    compare_endpoint,
    parity_limit,
)
from pytest_aprqa.domain.completion import (
    Completion,
    FinishReason,
    GenerationRequest,
    TokenChoice,
    TokenLogprob,
)
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.domain.tolerance import LOGITS, OTHER_ENGINE, LogitTolerance
from pytest_aprqa.domain.verdict import Ruling

WORDS = (" the", " cat", " dog", "ing", "<end>", "")  # "" is a special token without a text
VOCABULARY = (*(chr(code) for code in range(32, 127)), "\n", *WORDS)
PROMPTS = tuple(f"prompt {name}" for name in "abcdef")
Logits = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
Change = Callable[[Completion], Completion]


class Model:
    """A model whose logits hang on the last two tokens; its tokenizer takes the longest match."""

    name = "toy"
    version = "1"
    device = "cpu"
    has_chat_template = False
    context_length: int | None = 512

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        ids = []
        while text:
            word = max((w for w in VOCABULARY if w and text.startswith(w)), key=len)
            ids.append(VOCABULARY.index(word))
            text = text[len(word) :]
        return tuple(ids)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        rows = []
        for place in range(len(token_ids)):
            seed = [0, *token_ids[max(place - 1, 0) : place + 1]]
            rows.append(np.random.default_rng(seed).normal(0, 3, len(VOCABULARY)))
        return np.array(rows, np.float32)

    def generate(self, request: GenerationRequest) -> Completion:
        raise AssertionError("the reference answers nothing here")

    def describe(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        return None


class Endpoint(Model):
    """The same model behind a server: its own logits, and what it makes of its completions."""

    def __init__(
        self, distort: Logits = lambda x: x, change: Change = lambda x: x, *, ids: bool = False
    ) -> None:
        self._distort = distort
        self._change = change
        self._ids = ids

    def generate(self, request: GenerationRequest) -> Completion:
        assert request.prompt is not None
        prompt_ids = self.tokenize(request.prompt, special=True)
        ids, choices = list(prompt_ids), []
        for _step in range(request.max_tokens):
            logits = self._distort(self.logits(ids)[-1].astype(np.float64))
            log_p = logits - np.log(np.exp(logits).sum())
            best = np.argsort(-log_p)[: request.top_logprobs]
            told = [
                TokenLogprob(VOCABULARY[i], float(log_p[i]), int(i) if self._ids else None)
                for i in best
            ]
            choices.append(TokenChoice(told[0], tuple(told)))
            ids.append(int(best[0]))
        return self._change(
            Completion(
                text="".join(choice.chosen.text for choice in choices),
                token_ids=(),
                prompt_tokens=len(prompt_ids),
                finish_reason=FinishReason.LENGTH,
                ttft_s=None,
                total_s=1.0,
                peak_memory_bytes=0,
                rendered_prompt=request.prompt,
                counted_tokens=len(choices),
                logprobs=tuple(choices),
            )
        )


def noisy(size: float) -> Logits:
    random = np.random.default_rng(1)
    return lambda logits: logits + random.normal(0, size, len(logits))


def compared(endpoint: Endpoint, limit: LogitTolerance = OTHER_ENGINE) -> EndpointParity:
    return compare_endpoint(endpoint, Model(), PROMPTS, limit=limit)


@pytest.mark.parametrize("ids", [False, True])
def test_the_same_model_is_not_refuted(ids: bool) -> None:
    found = compared(Endpoint(ids=ids))
    assert found.verdict.ruling is Ruling.CORROBORATED, found
    assert found.verdict.reason.endswith("a lower bound: it can refute, not prove")
    assert found.measurements["lower_bound_kld"] < 1e-6
    assert found.measurements["same_top1"] == 1.0
    assert found.measurements["positions"] >= 32


@pytest.mark.parametrize(
    "distort", [noisy(0.3), lambda x: 0.8 * x, lambda x: np.roll(x, 1)], ids=["noise", "t", "ids"]
)
def test_another_distribution_is_refuted(distort: Logits) -> None:
    found = compared(Endpoint(distort))
    assert found.verdict.ruling is Ruling.FALSIFIED, found
    assert "(at most 0.0005)" in found.verdict.reason
    assert found.measurements["lower_bound_kld"] > OTHER_ENGINE.mean_kld


def test_other_top_tokens_are_refuted_by_themselves() -> None:
    found = compared(Endpoint(noisy(1.0)), LogitTolerance(mean_kld=100.0, top1=0.99))
    assert found.verdict.ruling is Ruling.FALSIFIED
    assert found.measurements["same_top1"] < 0.95


def test_quantized_weights_may_be_as_far_off_as_their_limit() -> None:
    endpoint = Endpoint(noisy(0.1))
    assert compared(endpoint).verdict.ruling is Ruling.FALSIFIED
    limit = parity_limit(Quantization.Q4_K_M)
    assert limit == LOGITS[Quantization.Q4_K_M]
    assert compared(endpoint, limit).verdict.ruling is Ruling.CORROBORATED


def test_the_limit_is_never_finer_than_two_engines_are() -> None:
    assert parity_limit(None) is OTHER_ENGINE
    assert parity_limit(Quantization.BF16).mean_kld >= OTHER_ENGINE.mean_kld


def told_without(answer: Completion) -> Completion:
    return replace(answer, logprobs=())


def spaces_lost(answer: Completion) -> Completion:
    chosen = [
        replace(c, chosen=replace(c.chosen, text=c.chosen.text.lstrip() or "?"))
        for c in answer.logprobs
    ]
    return replace(answer, text=f" {answer.text}", logprobs=tuple(chosen))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (told_without, "no log probabilities are told"),
        (spaces_lost, "the told tokens are not the answer's text"),
        (lambda a: replace(a, prompt_tokens=99), "the server counts 99 prompt tokens"),
        (lambda a: replace(a, finish_reason=FinishReason.TIMEOUT), "no answer in time"),
        (lambda a: replace(a, logprobs=a.logprobs[:2], text=""), "positions can be compared"),
    ],
)
def test_what_cannot_be_compared_is_no_pass(change: Change, told: str) -> None:
    found = compared(Endpoint(change=change))
    assert found.verdict.ruling is Ruling.INAPPLICABLE
    assert told in found.verdict.reason
    assert "expected 32" in found.verdict.reason
    assert "lower_bound_kld" not in found.measurements


def test_ids_that_contradict_the_texts_are_not_used() -> None:
    def shifted(answer: Completion) -> Completion:
        def other(token: TokenLogprob) -> TokenLogprob:
            assert token.token_id is not None
            return replace(token, token_id=(token.token_id + 1) % len(VOCABULARY))

        choices = [TokenChoice(other(c.chosen), tuple(map(other, c.top))) for c in answer.logprobs]
        return replace(answer, logprobs=tuple(choices))

    found = compared(Endpoint(change=shifted, ids=True))
    assert found.verdict.ruling is Ruling.INAPPLICABLE
    assert found.measurements["told_tokens_known"] < 0.1


def test_a_placeholder_for_an_unknown_probability_is_not_taken_for_one() -> None:
    def clamped(answer: Completion) -> Completion:
        def last(choice: TokenChoice) -> TokenChoice:
            unknown = replace(choice.top[-1], logprob=-9999.0)
            return replace(choice, top=(*choice.top[:-1], unknown))

        return replace(answer, logprobs=tuple(map(last, answer.logprobs)))

    assert compared(Endpoint(change=clamped)).verdict.ruling is Ruling.CORROBORATED


def test_the_bound_is_never_above_the_divergence() -> None:
    random = np.random.default_rng(7)
    for _ in range(500):
        size = int(random.integers(3, 50))
        p, q = (random.normal(0, random.uniform(0.1, 5), size) for _side in "pq")
        p, q = (x - np.log(np.exp(x).sum()) for x in (p, q))
        whole = float((np.exp(p) * (p - q)).sum())
        top = np.argsort(-q)[: int(random.integers(1, size))]
        bound = coarse_kld(p, {int(i): float(q[i]) for i in top})
        assert 0 <= bound <= whole + 1e-9


def test_the_bound_of_all_tokens_is_the_divergence() -> None:
    p, q = np.log([0.5, 0.3, 0.2]), np.log([0.2, 0.3, 0.5])
    whole = float((np.exp(p) * (p - q)).sum())
    assert coarse_kld(p, dict(enumerate(map(float, q)))) == pytest.approx(whole, abs=1e-5)
    assert coarse_kld(p, {0: float(q[0])}) == pytest.approx(
        0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8), abs=1e-5
    )


def test_rounding_of_the_endpoint_refutes_nothing() -> None:
    p = np.log([0.9999989, 0.0000010, 0.0000001])
    assert coarse_kld(p, {0: 0.0}) < 1e-5
