"""Answer several greedy requests in one pass of llama.cpp: one sequence of its cache for each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.engines.generation import Watch, picker
from pytest_aprqa.engines.memory import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

MAX_SLOTS = 64
"""Most requests in one pass; llama.cpp itself allows 256 sequences."""
MEMORY_SHARE = 0.25
"""Part of the free memory that one pass may take."""
KEY_BYTES = 256 * 4
"""Bytes of a head's keys for one token where the file does not say: the longest known, float32."""


@dataclass(slots=True)
class Slot:
    """One request of a pass with a sequence of the cache for it, and what becomes of it."""

    place: int
    """Its index among the requests."""
    request: GenerationRequest
    rendered: str
    prompt_ids: list[int]
    watch: Watch
    room: int
    """Tokens of context that it gets when it is asked alone."""
    token: int = 0
    """The newest token, which has not been decoded yet."""
    done: bool = False
    failed: bool = False
    """Its logits held NaN."""

    @property
    def answered(self) -> bool:
        """Whether it ended by itself and in time; otherwise it must be asked alone."""
        in_time = self.watch.finish_reason is not FinishReason.TIMEOUT
        return self.done and in_time and not self.failed


def passes(model: Any, slots: Sequence[Slot], kept_bytes: int) -> Iterator[list[Slot]]:
    """Slots that go together: of equal room, within the share of memory, two at least.

    llama.cpp picks a scaled rope's factors by the room of a sequence, so it is as when asked alone.
    `kept_bytes` is the size of one kept value of the cache.
    """
    heads = model.n_layer * max(1, model.n_head_kv) * 2 * kept_bytes
    width = max(1, model.n_embd // max(1, model.n_head), KEY_BYTES // 4)
    budget = free_bytes("cpu") * MEMORY_SHARE
    ordered = sorted(slots, key=lambda slot: (slot.room, len(slot.prompt_ids)))
    for room, group in groupby(ordered, key=lambda slot: slot.room):
        together = list(group)
        size = max(1, min(MAX_SLOTS, int(budget / (heads * width * room))))
        chunks = (together[at : at + size] for at in range(0, len(together), size))
        yield from (chunk for chunk in chunks if len(chunk) > 1)


class Pass:
    """Sequences that are decoded together in a context of their own."""

    def __init__(self, context: Any, batch: Any, slots: Sequence[Slot], most: int) -> None:
        """`batch` holds at most `most` tokens at once."""
        self._context, self._batch, self._most = context, batch, most
        self._slots = slots
        self._pickers = [picker(slot.request) for slot in slots]

    def run(self) -> float:
        """Answer all slots; the seconds that it took.

        Raises:
            InterruptedError: the context was told to stop.
        """
        started = time.perf_counter()
        for slot in self._slots:
            slot.watch.start()
        self._prefill()
        while going := [number for number, slot in enumerate(self._slots) if not slot.done]:
            self._decode(
                [(number, self._slots[number].token, self._place(number)) for number in going]
            )
        return time.perf_counter() - started

    def _place(self, number: int) -> int:
        """Where the newest token stands in its sequence."""
        slot = self._slots[number]
        return len(slot.prompt_ids) + len(slot.watch.token_ids) - 1

    def _prefill(self) -> None:
        tokens = [
            (number, token, place)
            for number, slot in enumerate(self._slots)
            for place, token in enumerate(slot.prompt_ids)
        ]
        for start in range(0, len(tokens), self._most):
            self._decode(tokens[start : start + self._most])

    def _decode(self, tokens: Sequence[tuple[int, int, int]]) -> None:
        """Decode tokens (slot, token, place); pick the next one of each slot whose last is here."""
        self._batch.clear()
        asked: list[tuple[int, int]] = []
        for index, (number, token, place) in enumerate(tokens):
            last = place >= len(self._slots[number].prompt_ids) - 1
            self._batch.add(token, place, [number], last)
            if last:
                asked.append((number, index))
        self._context.decode(self._batch)
        for number, index in asked:
            self._take(number, index)

    def _take(self, number: int, index: int) -> None:
        import numpy as np

        slot = self._slots[number]
        logits: np.ndarray[Any, Any] = np.asarray(self._context.get_logits_ith(index), np.float32)
        try:
            slot.token = self._pickers[number](logits)
        except FloatingPointError:
            slot.done = slot.failed = True
        else:
            slot.done = slot.watch.note(slot.token)


def answer_of(slot: Slot, seconds: float, size: int) -> dict[str, Any]:
    """A slot's answer as the parent takes it."""
    return {
        "text": slot.watch.text(),
        "token_ids": slot.watch.token_ids,
        "finish_reason": slot.watch.finish_reason or FinishReason.LENGTH,
        "ttft_s": None,
        "total_s": seconds,
        "batch_size": size,
        "rendered_prompt": slot.rendered,
        "prompt_token_ids": slot.prompt_ids,
    }


def answer_slots(
    chunks: Iterator[list[Slot]], run: Callable[[list[Slot]], float | None]
) -> dict[int, dict[str, Any]]:
    """Answers by place of the slots that have one; `run` gives a pass's seconds, if it ran."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        if (seconds := run(chunk)) is not None:
            found |= {s.place: answer_of(s, seconds, len(chunk)) for s in chunk if s.answered}
    return found
