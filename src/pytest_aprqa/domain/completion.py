"""What is asked of an engine and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation: a plain prompt, or chat messages for the model's own template.

    `temperature` 0 is greedy. `timeout_s` bounds the generation from prefill to last token.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("a GenerationRequest takes either a prompt or messages, not both")


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """An end-of-sequence token, or one of the request's stop strings."""
    LENGTH = "length"
    """`max_tokens` were generated."""
    TIMEOUT = "timeout"
    """The time limit ran out; the text is what there was."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine generated, with what it took; times in seconds, memory in bytes."""

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    ttft_s: float | None
    """Time to first token; None when no token was generated."""
    total_s: float
    peak_memory_bytes: int
    """Peak resident memory of the engine's process so far (CUDA: of the device)."""
    rendered_prompt: str
    """The exact text given to the tokenizer, chat template applied."""
    prompt_token_ids: tuple[int, ...] = field(default=(), repr=False)

    @property
    def completion_tokens(self) -> int:
        """Number of generated tokens, the end token included."""
        return len(self.token_ids)

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens per second over the whole request; None when nothing was generated."""
        return len(self.token_ids) / self.total_s if self.token_ids and self.total_s > 0 else None
