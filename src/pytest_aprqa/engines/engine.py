"""What an engine is, and the ways in which it can fail."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pytest_aprqa.domain.errors import AprqaError, Falsified
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from pytest_aprqa.domain.completion import Completion, GenerationRequest
    from pytest_aprqa.domain.trace import TraceLevel
    from pytest_aprqa.engines.tracing import TracedPass

TRACEBACK_TAIL = 4
"""Innermost frames an EngineCrashed keeps."""


class Engine(Protocol):
    """A loaded model that answers requests, one at a time."""

    @property
    def name(self) -> str:
        """The library that runs the model, in one word."""

    @property
    def version(self) -> str:
        """The library's version."""

    @property
    def device(self) -> str:
        """The device that holds the weights, as found on the weights: `cpu`, `cuda:0`."""

    @property
    def has_chat_template(self) -> bool:
        """Whether the model brings a chat template of its own."""

    @property
    def context_length(self) -> int | None:
        """Most tokens of prompt and answer together; None when the model does not say."""

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request.

        Raises:
            InvalidRequest: the model cannot be asked this; found before anything runs.
            EngineCrashed: the engine broke while it ran; it can still be asked again.
        """

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """The text's token ids; `special` adds the start and end tokens the model asks for.

        The name of a special token in the text is that token, either way.
        """

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Teacher-forced logits of a text given as token ids: float32 [tokens, vocabulary].

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, or more than the context.
            EngineCrashed: the engine broke while it ran; it can still be asked again.
        """

    def describe(self) -> Mapping[str, str]:
        """What ran, for the evidence: versions, device, dtype, threads."""

    def close(self) -> None:
        """Free the model's memory; the engine answers no more."""


@runtime_checkable
class BatchingEngine(Engine, Protocol):
    """An engine that can answer several greedy requests in one pass."""

    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        """Answer greedy requests together; None for each that must be asked alone.

        That is one which is not greedy, which ran out of time in the batch, or whose logits hold
        NaN: asked alone, it fails by itself and with its own reason.

        Raises:
            EngineCrashed: the engine broke; nothing is known of any of them.
        """


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that tells an answer while it grows."""

    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        """Answer one request as `generate` does, telling each piece of text as it is settled.

        The pieces joined are the completion's text: a piece is told once no stop string and no
        incomplete character can take it back. A `tell` that gives False wants no more: the answer
        ends there, and what it holds is what was told.

        Raises:
            InvalidRequest: the model cannot be asked this; found before anything is told.
            EngineCrashed: the engine broke.
        """


@runtime_checkable
class TracingEngine(Engine, Protocol):
    """An engine that lets a forward pass be looked into."""

    def trace(self, token_ids: Sequence[int], level: TraceLevel) -> TracedPass:
        """One teacher-forced pass with its inside recorded; the model stays as it was.

        Raises:
            InvalidRequest: no tokens, one outside of the vocabulary, or too many.
            EngineCrashed: the engine broke while it ran; it can still be asked again.
        """


class LoadFailed(Falsified):
    """The model does not load: gateway G1 is falsified; the message is one line."""


class EngineCrashed(Exception):
    """The engine broke while it generated; an outcome to record, neither pass nor set-up error."""

    def __init__(self, error: str, traceback_tail: str = "") -> None:
        super().__init__(error)
        self.error = error
        """The original exception's type and text."""
        self.traceback_tail = traceback_tail
        """The innermost frames of the original traceback."""

    @classmethod
    def from_exception(cls, error: BaseException) -> EngineCrashed:
        """The record of an exception: its text and the innermost frames it went through."""
        frames = traceback.extract_tb(error.__traceback__)[-TRACEBACK_TAIL:]
        text = f"out of memory: {told(error)}" if is_out_of_memory(error) else told(error)
        return cls(text, "".join(traceback.format_list(frames)))


class EngineHung(EngineCrashed):
    """The engine said nothing in time and was killed: a timeout, with where it was as its tail."""


class InvalidRequest(AprqaError):
    """The model cannot be asked this, whatever it would answer."""


class ContextOverflow(InvalidRequest):
    """Prompt and answer together are longer than the model's context."""


class NoChatTemplate(InvalidRequest):
    """Chat messages for a model without a chat template: chat does not apply to it."""


class EngineClosed(InvalidRequest):
    """A mistake of who asks: the engine was closed before, and no model refused anything."""

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("the engine is closed; load the model again")


def told(error: BaseException) -> str:
    """An exception's type and text in one line."""
    text = str(error).strip()
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__)
