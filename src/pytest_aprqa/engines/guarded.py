"""An engine of another package, held to what the engine protocol promises."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import Completion
from pytest_aprqa.domain.errors import AprqaError, Falsified
from pytest_aprqa.engines.engine import (
    BatchingEngine,
    Engine,
    EngineCrashed,
    StreamingEngine,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from pytest_aprqa.domain.completion import GenerationRequest

_MEMBERS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "version": str,
    "device": str,
    "has_chat_template": bool,
    "context_length": (int, type(None)),
}
_METHODS = ("generate", "tokenize", "logits", "describe", "close")


def guarded(engine: Engine, provider: str) -> Engine:
    """The engine, so held that an exception of its own is an EngineCrashed.

    Its evidence always names the engine, its version, and the provider that loaded it. It answers
    batches and streams where the engine itself does.

    Raises:
        AprqaError: it lacks a member of the protocol, or one is of another type.
    """
    for name, kind in _MEMBERS.items():
        if not isinstance(getattr(engine, name, ...), kind):
            raise AprqaError(f"the engine that {provider} loaded has no {name} of the right type")
    for name in _METHODS:
        if not callable(getattr(engine, name, None)):
            raise AprqaError(f"the engine that {provider} loaded has no method {name}")
    batches, streams = isinstance(engine, BatchingEngine), isinstance(engine, StreamingEngine)
    kinds: dict[tuple[bool, bool], type[GuardedEngine]] = {
        (False, False): GuardedEngine,
        (True, False): _GuardedBatching,
        (False, True): _GuardedStreaming,
        (True, True): _GuardedBoth,
    }
    return kinds[batches, streams](engine, provider)


class GuardedEngine:
    """The members of one engine, and none of its surprises."""

    def __init__(self, engine: Any, provider: str) -> None:
        self._engine = engine
        self._provider = provider
        self.name: str = engine.name
        self.version: str = engine.version
        self.device: str = engine.device
        self.has_chat_template: bool = engine.has_chat_template
        self.context_length: int | None = engine.context_length

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request.

        Raises:
            InvalidRequest: the model cannot be asked this.
            EngineCrashed: the engine raised anything else, or gave no completion.
        """
        with self._surprises_are_crashes():
            answer = self._engine.generate(request)
        return self._required(answer)

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The text's token ids."""
        with self._surprises_are_crashes():
            return tuple(self._engine.tokenize(text, special=special))

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Teacher-forced logits: float32 [tokens, vocabulary]."""
        with self._surprises_are_crashes():
            found: np.ndarray[Any, Any] = self._engine.logits(token_ids)
            return found

    def describe(self) -> dict[str, str]:
        """What ran, for the evidence: the engine's own words, its name, and its provider."""
        with self._surprises_are_crashes():
            own = {str(key): str(value) for key, value in self._engine.describe().items()}
        fixed = {"device": self.device, "provider": self._provider}
        return {"engine": f"{self.name} {self.version}"} | own | fixed

    def close(self) -> None:
        """Free the model's memory."""
        self._engine.close()

    def _required(self, answer: object) -> Completion:
        if not isinstance(answer, Completion) or not isinstance(answer.text, str):
            raise EngineCrashed(f"{self.name} gave {type(answer).__name__}, not a Completion")
        return answer

    @contextlib.contextmanager
    def _surprises_are_crashes(self) -> Iterator[None]:
        try:
            yield
        except (AprqaError, Falsified, EngineCrashed):
            raise
        except Exception as error:
            raise EngineCrashed.from_exception(error) from error


class _GuardedBatching(GuardedEngine):
    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        """Answer greedy requests together; None for each that must be asked alone."""
        with self._surprises_are_crashes():
            answers = tuple(self._engine.generate_batch(requests))
        if len(answers) != len(requests):
            raise EngineCrashed(f"{self.name} gave {len(answers)} answers to {len(requests)}")
        return tuple(None if answer is None else self._required(answer) for answer in answers)


class _GuardedStreaming(GuardedEngine):
    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        """Answer one request, telling each piece of text as it is settled."""
        with self._surprises_are_crashes():
            answer = self._engine.stream(request, tell)
        return self._required(answer)


class _GuardedBoth(_GuardedBatching, _GuardedStreaming):
    pass
