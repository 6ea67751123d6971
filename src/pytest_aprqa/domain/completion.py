"""What is asked of an engine and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

GREEDY_BELOW = 1e-5
"""A temperature below this is greedy: dividing logits by less overflows."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation: a plain prompt as text or as token ids, or messages for a chat template.

    `temperature` 0 is greedy. `timeout_s` bounds the generation from prefill to last token.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    timeout_s: float = 60.0
    top_logprobs: int = 0
    """How many of the most probable tokens to tell at each generated place; 0 tells nothing. An
    engine that cannot tell them gives a completion without `logprobs`."""
    prompt_token_ids: tuple[int, ...] = ()
    """A plain prompt as the tokenizer's ids, taken as they are."""

    ignore_eos: bool = False
    """Whether the model's end tokens are tokens like others, as for measuring with long answers."""

    def __post_init__(self) -> None:
        given = (self.prompt is not None, bool(self.messages), bool(self.prompt_token_ids))
        if sum(given) != 1:
            raise ValueError(
                "a GenerationRequest takes either a prompt or messages or token ids, one of them"
            )

    @property
    def greedy(self) -> bool:
        """Whether each token is the most probable one."""
        return self.temperature < GREEDY_BELOW


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    """An end-of-sequence token, or one of the request's stop strings."""
    LENGTH = "length"
    """`max_tokens` were generated."""
    TIMEOUT = "timeout"
    """The time limit ran out; the text is what there was."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token and the natural logarithm of its probability."""

    text: str
    logprob: float
    token_id: int | None = None
    """None where a server tells only the text."""


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One generated token among the most probable ones at its place, best first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...]


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
    counted_tokens: int | None = None
    """Generated tokens by the server's own count, where it tells no token ids."""
    logprobs: tuple[TokenChoice, ...] = field(default=(), repr=False)
    batch_size: int = 1
    """How many requests were generated together; the times of more than one are the batch's."""
    token_s: tuple[float, ...] = field(default=(), repr=False)
    """When each token was there, in seconds from the start; empty where the engine tells none."""
    diagnosis: str = field(default="", repr=False)
    """Where an engine that had to be killed was: its stack, or the tail of its log."""

    @property
    def completion_tokens(self) -> int:
        """Number of generated tokens, the end token included."""
        return len(self.token_ids) if self.counted_tokens is None else self.counted_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens per second over the whole request.

        None when nothing was generated, or together with other requests.
        """
        tokens = self.completion_tokens
        return tokens / self.total_s if tokens and self.total_s > 0 and self.alone else None

    @property
    def alone(self) -> bool:
        """Whether the times are this request's own."""
        return self.batch_size == 1
