"""Greedy requests answered together by llama.cpp: as alone, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pytest_aprqa
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.engines import llamacpp_batch
from pytest_aprqa.engines.engine import BatchingEngine
from pytest_aprqa.engines.llamacpp_batch import Pass, Slot, passes
from pytest_aprqa.engines.llamacpp_engine import LlamaCppEngine, load_gguf
from pytest_aprqa.engines.llamacpp_model import GgufModel
from tests.engines.batches import answers, arithmetic

EMBEDDED = Path(pytest_aprqa.__file__).parent / "models" / "aprqa-tiny"
HI = GenerationRequest(prompt="Hi", max_tokens=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    convert(EMBEDDED, path)
    return path


@pytest.fixture(scope="module")
def engine(file: Path) -> Iterator[LlamaCppEngine]:
    engine = load_gguf(file, threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def model(file: Path) -> GgufModel:
    """The model in this process, to be looked into."""
    return GgufModel(str(file), threads=1, exact=True)


def test_batched_equals_alone(engine: LlamaCppEngine) -> None:
    assert isinstance(engine, BatchingEngine)
    requests = arithmetic(66)
    found = engine.generate_batch(requests)
    assert answers(found) == answers([engine.generate(request) for request in requests])
    sizes = [one.batch_size for one in found if one]
    assert sorted(set(sizes)) == [2, 64]
    assert all(one is not None and one.ttft_s is None and one.total_s > 0 for one in found)


def test_rows_end_by_themselves(engine: LlamaCppEngine) -> None:
    free = engine.generate(GenerationRequest(prompt="Once upon a time", max_tokens=40))
    stop = free.text[3:5]
    requests = [
        GenerationRequest(prompt="Once upon a time", max_tokens=40, stop=("zzzz", stop)),
        GenerationRequest(prompt="Once upon a time", max_tokens=40),
        GenerationRequest(prompt="What is 2 + 2?", max_tokens=1),
        GenerationRequest(prompt="", max_tokens=3),
    ]
    found = engine.generate_batch(requests)
    assert answers(found) == answers([engine.generate(request) for request in requests])
    assert found[0] is not None
    assert found[0].finish_reason is FinishReason.STOP
    assert found[0].text == free.text[: free.text.index(stop)]


def test_what_must_be_asked_alone(engine: LlamaCppEngine) -> None:
    alone = [
        replace(HI, temperature=1.0),
        replace(HI, top_logprobs=2),
        replace(HI, max_tokens=0),
        replace(HI, max_tokens=600),
        replace(HI, timeout_s=0.0),
    ]
    pid = engine.child_pid
    found = engine.generate_batch([HI, *alone, replace(HI, prompt="Hello")])
    assert found[0] is not None
    assert found[-1] is not None
    assert found[1:-1] == (None,) * len(alone)
    assert engine.generate_batch([HI]) == (None,)
    assert engine.generate_batch([]) == ()
    assert engine.child_pid == pid


def _slots(model: GgufModel, requests: list[GenerationRequest]) -> list[Slot]:
    return [slot for n, r in enumerate(requests) if (slot := model._slot(n, r)) is not None]


def test_a_row_with_nan_is_asked_alone_and_spoils_no_other(
    model: GgufModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [replace(HI, prompt=text) for text in ("Hi", "Hello", "What is 2 + 2?")]
    expected = model.generate_batch(requests, lambda _limit: None)
    assert None not in expected
    take = Pass._take

    class Spoiled:
        """The context of one row with NaN in its logits."""

        def get_logits_ith(self, _index: int) -> Any:
            return np.full(1024, np.nan, np.float32)

    def spoiled(self: Pass, number: int, index: int) -> None:
        context = self._context
        if number == 1:
            self._context = Spoiled()
        try:
            take(self, number, index)
        finally:
            self._context = context

    monkeypatch.setattr(Pass, "_take", spoiled)
    found = model.generate_batch(requests, lambda _limit: None)
    spoiled_place = next(n for n, one in enumerate(found) if one is None)
    assert sum(one is None for one in found) == 1
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if place != spoiled_place:
            assert one is not None
            assert other is not None
            assert (one["text"], one["token_ids"]) == (other["text"], other["token_ids"])


def test_a_pass_that_is_cut_keeps_what_is_done(
    model: GgufModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [replace(HI, max_tokens=1), replace(HI, max_tokens=50, prompt="Once upon a time")]
    decode, calls = Pass._decode, [0]

    def cut(self: Pass, tokens: Any) -> None:
        calls[0] += 1
        if calls[0] > 1:
            raise InterruptedError
        decode(self, tokens)

    monkeypatch.setattr(Pass, "_decode", cut)
    found = model.generate_batch(requests, lambda _limit: None)
    assert found[0] is not None
    assert found[1] is None


def test_rows_of_one_room_go_together(model: GgufModel, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = _slots(model, [HI, replace(HI, prompt="Hello there"), HI])
    slots[1].room = 1024
    told: list[list[int]] = [[s.place for s in chunk] for chunk in passes(model._model, slots, 4)]
    assert told == [[0, 2]]  # one alone is no pass
    many = _slots(model, [HI] * 70)
    sizes = [len(chunk) for chunk in passes(model._model, many, 4)]
    assert sizes == [64, 6]
    # Layers, kv heads, keys and values, float32, the longest head, the room: ten of those fit.
    room = 3 * 2 * 2 * 4 * 256 * 512
    free = 10 * room / llamacpp_batch.MEMORY_SHARE
    monkeypatch.setattr(llamacpp_batch, "free_bytes", lambda _device: free)
    assert [len(chunk) for chunk in passes(model._model, many, 4)] == [10] * 7
    monkeypatch.setattr(llamacpp_batch, "free_bytes", lambda _device: 0)
    assert list(passes(model._model, many, 4)) == []
