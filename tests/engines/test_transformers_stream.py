"""Streams, log probabilities and prompts of token ids, with a random model in transformers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.engines.engine import ContextOverflow, InvalidRequest, StreamingEngine
from pytest_aprqa.engines.transformers_engine import TransformersEngine

REQUEST = GenerationRequest(prompt="What is 2 + 2?", max_tokens=24)


def heard(engine: TransformersEngine, request: GenerationRequest) -> tuple[list[str], str]:
    pieces: list[str] = []

    def listen(piece: str) -> bool:
        pieces.append(piece)
        return True

    return pieces, engine.stream(request, listen).text


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        replace(REQUEST, temperature=1.5, seed=3, max_tokens=60),
        GenerationRequest(messages=(Message("user", "hello"),), max_tokens=24),
    ],
)
def test_a_stream_is_the_answer_in_pieces(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    assert isinstance(engine, StreamingEngine)
    whole = engine.generate(request_)
    pieces, text = heard(engine, request_)
    assert "".join(pieces) == text == whole.text
    assert len(pieces) >= len(whole.token_ids) - 1  # asked after every token, told or not


def test_a_stop_string_over_several_tokens_is_never_told(engine: TransformersEngine) -> None:
    text = engine.generate(REQUEST).text
    stop = text[5:9]
    assert len(engine.tokenize(stop, special=False)) > 1
    pieces, streamed = heard(engine, replace(REQUEST, stop=(stop,)))
    assert streamed == "".join(pieces) == text[: text.index(stop)]


def test_who_wants_no_more_ends_the_answer(engine: TransformersEngine) -> None:
    pieces: list[str] = []

    def listen(piece: str) -> bool:
        pieces.append(piece)
        return len(pieces) < 3

    cut = engine.stream(REQUEST, listen)
    assert len(cut.token_ids) == 3
    assert cut.text == "".join(pieces)
    assert cut.finish_reason is FinishReason.TIMEOUT
    assert engine.generate(REQUEST).text.startswith(cut.text)


def test_nothing_is_told_of_a_request_that_is_refused(engine: TransformersEngine) -> None:
    pieces: list[str] = []

    def listen(piece: str) -> bool:
        pieces.append(piece)
        return True

    with pytest.raises(ContextOverflow, match="more than the model's context of 2048"):
        engine.stream(replace(REQUEST, max_tokens=5000), listen)
    assert pieces == []


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_log_probabilities_are_those_of_the_raw_logits(
    engine: TransformersEngine, temperature: float
) -> None:
    request = replace(REQUEST, temperature=temperature, top_logprobs=5, max_tokens=8)
    answer = engine.generate(request)
    plain = engine.generate(replace(request, top_logprobs=0))
    assert plain.logprobs == ()
    assert plain.token_ids == answer.token_ids
    assert len(answer.logprobs) == len(answer.token_ids)
    ids = answer.prompt_token_ids + answer.token_ids
    logits = engine.logits(ids).astype(np.float64)[len(answer.prompt_token_ids) - 1 : -1]
    expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    for row, token, choice in zip(expected, answer.token_ids, answer.logprobs, strict=True):
        assert choice.chosen.token_id == token
        assert choice.chosen.logprob == pytest.approx(row[token], abs=0.05)  # bfloat16 cache
        told = [one.logprob for one in choice.top]
        assert len(told) == 5
        assert told == sorted(told, reverse=True)
        np.testing.assert_allclose(told, np.sort(row)[::-1][:5], atol=0.05)
        assert sum(map(np.exp, told)) <= 1 + 1e-6
    if temperature == 0:
        assert all(choice.chosen == choice.top[0] for choice in answer.logprobs)


def test_more_log_probabilities_than_there_are_tokens(engine: TransformersEngine) -> None:
    (choice,) = engine.generate(replace(REQUEST, top_logprobs=10_000, max_tokens=1)).logprobs
    assert len(choice.top) == 259
    assert sum(np.exp(one.logprob) for one in choice.top) == pytest.approx(1, abs=1e-4)


def test_a_prompt_of_token_ids_is_taken_as_it_is(engine: TransformersEngine) -> None:
    ids = engine.tokenize("What is 2 + 2?", special=False)
    by_ids = engine.generate(GenerationRequest(prompt_token_ids=ids, max_tokens=24))
    by_text = engine.generate(REQUEST)
    assert by_ids.text == by_text.text
    assert by_ids.prompt_token_ids == ids
    assert by_ids.rendered_prompt == "What is 2 + 2?"
    with pytest.raises(InvalidRequest, match="token id 9999: expected 0 to 258"):
        engine.generate(GenerationRequest(prompt_token_ids=(9999,)))


def test_a_request_has_one_prompt() -> None:
    with pytest.raises(ValueError, match="either a prompt or messages or token ids"):
        GenerationRequest(prompt="a", prompt_token_ids=(1,))


def test_the_prompts_tokens_are_counted(engine: TransformersEngine) -> None:
    assert engine.count_prompt(REQUEST) == engine.generate(REQUEST).prompt_tokens
