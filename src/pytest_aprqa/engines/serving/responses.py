"""Completions in the schema of OpenAI's API, whole and as the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pytest_aprqa.domain.completion import FinishReason

if TYPE_CHECKING:
    from pytest_aprqa.domain.completion import Completion, TokenChoice, TokenLogprob

LEAST_LOGPROB = -9999.0
"""What OpenAI's API tells for a probability of 0, whose logarithm JSON does not have."""


class Shape(Protocol):
    """How answers of one endpoint look."""

    def whole(self, completion: Completion) -> dict[str, Any]:
        """An answer that is not streamed."""

    def first(self) -> dict[str, Any] | None:
        """The chunk before any text; None where there is none."""

    def piece(self, text: str) -> dict[str, Any]:
        """The chunk of one piece of text."""

    def last(self, completion: Completion) -> dict[str, Any]:
        """The chunk after all text: why it ended, and the log probabilities of the whole."""

    def usage(self, completion: Completion) -> dict[str, Any]:
        """The chunk with the usage and no text."""


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """Of POST /v1/completions."""

    model: str
    logprobs: int | None = None
    """How many of the best tokens are told at each place; None tells nothing."""
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, completion: Completion) -> dict[str, Any]:
        """A `text_completion` with its usage."""
        return self._chunk([self._ended(completion, completion.text)], usage=_usage(completion))

    def first(self) -> None:
        """There is none."""
        return None

    def piece(self, text: str) -> dict[str, Any]:
        """A choice with the piece as its text."""
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
        return self._chunk([choice])

    def last(self, completion: Completion) -> dict[str, Any]:
        """A choice without text."""
        return self._chunk([self._ended(completion, "")])

    def usage(self, completion: Completion) -> dict[str, Any]:
        """No choice, and the usage."""
        return self._chunk([], usage=_usage(completion))

    def _ended(self, completion: Completion, text: str) -> dict[str, Any]:
        return {
            "index": 0,
            "text": text,
            "logprobs": self._told(completion.logprobs),
            "finish_reason": _reason(completion),
        }

    def _told(self, choices: tuple[TokenChoice, ...]) -> dict[str, Any] | None:
        if self.logprobs is None or not choices:
            return None
        texts = [choice.chosen.text for choice in choices]
        return {
            "tokens": texts,
            "token_logprobs": [_value(choice.chosen) for choice in choices],
            "top_logprobs": [_best(choice.top[: self.logprobs]) for choice in choices],
            "text_offset": [sum(map(len, texts[:place])) for place in range(len(texts))],
        }

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        }


@dataclass(frozen=True, slots=True)
class ChatShape:
    """Of POST /v1/chat/completions."""

    model: str
    logprobs: int | None = None
    """How many of the best tokens are told at each place; None tells nothing."""
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, completion: Completion) -> dict[str, Any]:
        """A `chat.completion` with its usage."""
        message = {"role": "assistant", "content": completion.text, "refusal": None}
        return self._chunk(
            "chat.completion",
            [{"index": 0, "message": message, **self._ended(completion)}],
            usage=_usage(completion),
        )

    def first(self) -> dict[str, Any]:
        """The role."""
        return self._delta({"role": "assistant", "content": ""})

    def piece(self, text: str) -> dict[str, Any]:
        """A delta with the piece as its content."""
        return self._delta({"content": text})

    def last(self, completion: Completion) -> dict[str, Any]:
        """A delta without content."""
        return self._delta({}, **self._ended(completion))

    def usage(self, completion: Completion) -> dict[str, Any]:
        """No choice, and the usage."""
        return self._chunk("chat.completion.chunk", [], usage=_usage(completion))

    def _delta(self, delta: dict[str, str], **ended: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, **ended}
        return self._chunk("chat.completion.chunk", [choice])

    def _ended(self, completion: Completion) -> dict[str, Any]:
        told = None
        if self.logprobs is not None and completion.logprobs:
            told = {"content": [self._token(choice) for choice in completion.logprobs]}
        return {"logprobs": told, "finish_reason": _reason(completion)}

    def _token(self, choice: TokenChoice) -> dict[str, Any]:
        best = [_entry(one) for one in choice.top[: self.logprobs]]
        return {**_entry(choice.chosen), "top_logprobs": best}

    def _chunk(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        }


def _best(top: tuple[TokenLogprob, ...]) -> dict[str, float]:
    """By text, best first; of two tokens with one text the better is told."""
    found: dict[str, float] = {}
    for one in top:
        found.setdefault(one.text, _value(one))
    return found


def _entry(one: TokenLogprob) -> dict[str, Any]:
    encoded = one.text.encode("utf-8", "replace")
    return {"token": one.text, "logprob": _value(one), "bytes": list(encoded), "id": one.token_id}


def _value(one: TokenLogprob) -> float:
    return max(one.logprob, LEAST_LOGPROB)


def _reason(completion: Completion) -> str:
    return "stop" if completion.finish_reason is FinishReason.STOP else "length"


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }
