"""Greedy requests answered together by transformers: as alone, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pytest_aprqa
from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines import transformers_batch
from pytest_aprqa.engines.engine import BatchingEngine, EngineCrashed, InvalidRequest
from pytest_aprqa.engines.transformers_batch import padding_is_safe
from pytest_aprqa.engines.transformers_engine import TransformersEngine, load
from tests.engines.batches import answers, arithmetic

EMBEDDED = Path(pytest_aprqa.__file__).parent / "models" / "aprqa-tiny"
HI, LONGER = GenerationRequest(prompt="Hi", max_tokens=6), GenerationRequest(prompt="What is 2?")


@pytest.fixture(scope="module")
def tiny_engine() -> TransformersEngine:
    return load(EMBEDDED, backend=Backend.CPU, threads=1)


@pytest.fixture
def fresh(model_directory: Path) -> TransformersEngine:
    """An engine of a test's own, in float32: no near tie is rounded the other way."""
    return load(model_directory, backend=Backend.CPU, dtype="float32", threads=1)


def test_the_engine_batches(engine: TransformersEngine) -> None:
    assert isinstance(engine, BatchingEngine)


def test_batched_equals_alone(tiny_engine: TransformersEngine) -> None:
    requests = arithmetic(66)
    found = tiny_engine.generate_batch(requests)
    assert answers(found) == answers([tiny_engine.generate(request) for request in requests])
    assert None not in found
    sizes = [one.batch_size for one in found if one]
    assert sorted(set(sizes)) == [2, 64]
    for one in found:
        assert one is not None
        assert one.ttft_s is None
        assert one.total_s > 0
        assert one.peak_memory_bytes > 2**26
        assert one.tokens_per_second is None


def test_rows_end_by_themselves(fresh: TransformersEngine) -> None:
    free = fresh.generate(GenerationRequest(prompt="Hi", max_tokens=40))
    stop = free.text[4:6]
    requests = [
        GenerationRequest(prompt="Hi", max_tokens=40),
        GenerationRequest(prompt="Hi", max_tokens=40, stop=("zzzz", stop)),
        GenerationRequest(prompt="What is 2 + 2?", max_tokens=1),
        GenerationRequest(prompt="def f(n):\n", max_tokens=17),
        GenerationRequest(messages=(Message("user", "Hi"),), max_tokens=9, stop=("<|im_start|>",)),
        GenerationRequest(prompt="", max_tokens=3),
    ]
    found = fresh.generate_batch(requests)
    assert answers(found) == answers([fresh.generate(request) for request in requests])
    cut = found[1]
    assert cut is not None
    assert cut.finish_reason is FinishReason.STOP
    assert cut.text == free.text[: free.text.index(stop)]
    assert [one and one.completion_tokens for one in found[2:4]] == [1, 17]
    assert all(one is not None and one.batch_size == 6 for one in found)


def test_what_must_be_asked_alone(engine: TransformersEngine) -> None:
    alone = [
        replace(HI, temperature=1.0),
        replace(HI, top_logprobs=2),
        replace(HI, max_tokens=0),
        replace(HI, stop=("",)),
        replace(HI, prompt="x" * 2000, max_tokens=100),
    ]
    found = engine.generate_batch([HI, *alone, LONGER])
    assert found[0] is not None
    assert found[-1] is not None
    assert found[1:-1] == (None,) * len(alone)
    assert engine.generate_batch([HI]) == (None,)
    assert engine.generate_batch([]) == ()


def test_chat_without_a_template_is_asked_alone(copied_model: Path) -> None:
    (copied_model / "chat_template.jinja").unlink()
    engine = load(copied_model, backend=Backend.CPU, threads=1)
    chat = GenerationRequest(messages=(Message("user", "Hi"),))
    found = engine.generate_batch([HI, chat, LONGER])
    assert [one is None for one in found] == [False, True, False]


def test_a_closed_engine_answers_no_batch(model_directory: Path) -> None:
    engine = load(model_directory, backend=Backend.CPU, threads=1)
    engine.close()
    with pytest.raises(InvalidRequest, match=r"the engine is closed"):
        engine.generate_batch([HI, LONGER])


def _spoil(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    """From the second token on, a row's logits hold a NaN."""
    forward, calls = engine._model.forward, [0]

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        calls[0] += 1
        if calls[0] > 1:
            output.logits[row, -1, 3] = float("nan")
        return output

    monkeypatch.setattr(engine._model, "forward", spoiled)


def test_a_row_with_nan_is_asked_alone_and_spoils_no_other(
    fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [replace(HI, prompt=text) for text in ("a", "bb", "ccc")]
    expected = fresh.generate_batch(requests)  # and the probe is over
    assert None not in expected
    _spoil(fresh, monkeypatch, row=1)
    found = fresh.generate_batch(requests)
    assert found[1] is None
    assert answers([found[0], found[2]]) == answers([expected[0], expected[2]])


def test_a_row_out_of_time_is_asked_alone(
    fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = replace(HI, prompt="bb", timeout_s=1e-6)
    expected = fresh.generate_batch([HI, LONGER])
    found = fresh.generate_batch([HI, hurried, LONGER])
    assert found[1] is None
    assert answers([found[0], found[2]]) == answers(expected)


def test_the_limit_of_each_pass_is_told_before_it(
    fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    monkeypatch.setattr(transformers_batch, "MAX_ROWS", 2)
    requests = [replace(HI, timeout_s=limit) for limit in (7.0, 9.0, 3.0, 5.0)]
    assert None not in fresh.generate_batch(requests, told.append)
    assert told == [transformers_batch.PROBE_LIMIT_S, 9.0, 5.0]
    told.clear()
    fresh.generate_batch(requests, told.append)
    assert told == [9.0, 5.0]  # the probe is made once


def test_a_crash_in_a_batch_is_told(
    fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.generate_batch([HI, LONGER])

    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("index out of range\nin self")

    monkeypatch.setattr(fresh._model, "forward", broken)
    with pytest.raises(EngineCrashed, match=r"^RuntimeError: index out of range in self$") as e:
        fresh.generate_batch([HI, LONGER])
    assert "in broken" in e.value.traceback_tail


def test_a_batch_without_memory_is_asked_alone(
    fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.generate_batch([HI, LONGER])

    def full(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(fresh._model, "forward", full)
    assert fresh.generate_batch([HI, LONGER]) == (None, None)


def _blind(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model sees its padding: an attention mask does not act."""
    forward = engine._model.forward

    def blind(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **(kwargs | {"attention_mask": None, "position_ids": None}))

    monkeypatch.setattr(engine._model, "forward", blind)


def test_a_model_that_sees_its_padding_is_never_batched(
    fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert padding_is_safe(fresh._model, [72, 105])
    _blind(fresh, monkeypatch)
    assert not padding_is_safe(fresh._model, [72, 105])
    assert fresh.generate_batch([HI, LONGER]) == (None, None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_noise_is_no_reason_not_to_batch(
    model_directory: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(model_directory, backend=Backend.CPU, dtype=dtype, threads=1)
    for prompt in ([1], [72, 105], list(range(40, 90))):
        assert padding_is_safe(engine._model, prompt)
    _blind(engine, monkeypatch)
    assert not padding_is_safe(engine._model, [72, 105])


def test_absolute_positions(tmp_path: Path) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    untyped: Any = GPT2LMHeadModel
    config: Any = GPT2Config
    model = untyped(config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(6.0 if parameter.dim() > 1 else 1.0)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    assert padding_is_safe(model, [5, 9, 11])
    forward = model.forward

    def shifted(*args: Any, **kwargs: Any) -> Any:  # as if the padding were a part of the text
        return forward(*args, **(kwargs | {"position_ids": None}))

    model.forward = shifted
    assert not padding_is_safe(model, [5, 9, 11])


def test_passes_fit_into_memory(fresh: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [replace(HI, prompt="x" * length) for length in (9, 2, 30, 3, 31, 8)]
    rows = [row for request in requests if (row := fresh._row(request)) is not None]
    model = fresh._model
    plenty = list(transformers_batch.passes(model, rows))
    assert plenty == [[1, 3, 5, 0, 2, 4]]  # by length
    two = transformers_batch._bytes_of(model, [rows[2], rows[4]])
    share = transformers_batch.MEMORY_SHARE
    monkeypatch.setattr(transformers_batch, "free_bytes", lambda _device: two / share)
    tight = list(transformers_batch.passes(model, rows))
    assert sorted(index for chunk in tight for index in chunk) == list(range(6))
    assert tight[-1] == [2, 4]
    assert len(tight) > 1
    for chunk in tight:
        assert transformers_batch._bytes_of(model, [rows[i] for i in chunk]) <= two
    monkeypatch.setattr(transformers_batch, "free_bytes", lambda _device: 0)
    assert [len(chunk) for chunk in transformers_batch.passes(model, rows)] == [1] * 6
    assert fresh.generate_batch(requests) == (None,) * 6


def test_the_bound_holds_the_cache_of_keys_and_values(fresh: TransformersEngine) -> None:
    row = fresh._row(HI)
    assert row is not None
    tokens = len(row.prompt_ids) + HI.max_tokens
    cache = 2 * 2 * 16 * 2 * 4 * tokens  # layers, kv heads, head, keys and values, float32
    one = transformers_batch._bytes_of(fresh._model, [row])
    assert cache < one < 10 * cache + 3 * 4 * 259 + 10_000
    assert transformers_batch._bytes_of(fresh._model, [row] * 8) == 8 * one
