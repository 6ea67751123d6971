"""Answers to a target's greedy questions, generated together before the items that ask them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.scenario import first_request
from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.plan import BATCHED_FROM
from pytest_aprqa.engines.engine import BatchingEngine, EngineCrashed

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.engines.engine import Engine

WINDOW = 128
"""Questions that are generated ahead at a time: a run that stops early wastes no more."""


class AheadEngine:
    """An engine that may know an answer before it is asked; all else is the engine's own.

    Each answer is given once: whoever asks the same again, to compare say, has it generated.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.version, self.device = engine.name, engine.version, engine.device
        self.has_chat_template = engine.has_chat_template
        self.context_length = engine.context_length
        self._batches = isinstance(engine, BatchingEngine)
        self._tried: set[GenerationRequest] = set()
        self._known: dict[GenerationRequest, Completion] = {}

    @property
    def batches(self) -> bool:
        """Whether the engine answers several requests together, as far as is known."""
        return self._batches

    def prepare(self, cases: Iterable[Case]) -> None:
        """Generate the answers to the first of these cases that were not tried yet.

        A batch that breaks is no case's outcome: each is then asked alone and fails by itself.
        """
        if not isinstance(self.engine, BatchingEngine) or not self._batches:
            return
        wanted = [first_request(case) for case in cases if case.batchable]
        fresh = [r for r in dict.fromkeys(wanted) if r not in self._tried][:WINDOW]
        if len(fresh) < BATCHED_FROM:
            return
        self._tried.update(fresh)
        try:
            answers = self.engine.generate_batch(fresh)
        except EngineCrashed:
            self._batches = False
            return
        known = zip(fresh, answers, strict=True)
        self._known.update((request, answer) for request, answer in known if answer is not None)

    def tried(self, request: GenerationRequest) -> bool:
        """Whether the request was part of a batch already, with or without an answer."""
        return request in self._tried

    def generate(self, request: GenerationRequest) -> Completion:
        """The answer from a batch where there is one, else the engine's."""
        known = self._known.pop(request, None)
        return self.engine.generate(request) if known is None else known

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The engine's token ids."""
        return self.engine.tokenize(text, special=special)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """The engine's logits."""
        return self.engine.logits(token_ids)

    def describe(self) -> Mapping[str, str]:
        """What the engine says of itself."""
        return self.engine.describe()

    def close(self) -> None:
        """Close the engine."""
        self._known.clear()
        self.engine.close()
