"""What an OpenAI-compatible server answered: text, reason, token counts, log probabilities."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_aprqa.domain.completion import FinishReason, TokenChoice, TokenLogprob
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.endpoint_http import parse_json
from pytest_aprqa.engines.generation import encodable

DONE = "[DONE]"
"""The data of the event that ends a stream."""
_REASONS = {
    "stop": FinishReason.STOP,
    "eos_token": FinishReason.STOP,  # Text Generation Inference's words
    "stop_sequence": FinishReason.STOP,
    "content_filter": FinishReason.STOP,
    "tool_calls": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}


class Garbled(Exception):
    """The server's answer is not what OpenAI's API says it is; the message is one line."""


class ToldError(Exception):
    """The server broke a stream off with an error of its own; the message is the server's."""


class GrowingAnswer:
    """An answer of which more comes with every chunk of a stream, or all of it in one body."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._logprobs: list[TokenChoice] = []
        self._usage: Mapping[str, Any] = {}
        self._reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    @property
    def begun(self) -> bool:
        """Whether a token was told, or the end of an answer without any."""
        return bool(self._texts or self._logprobs or self._reason is not None)

    @property
    def finished(self) -> bool:
        """Whether the reason of its end was told."""
        return self._reason is not None

    @property
    def logprobs(self) -> tuple[TokenChoice, ...]:
        """The log probabilities so far."""
        return tuple(self._logprobs)

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of the prompt by the server's count."""
        return _count(self._usage, "prompt_tokens")

    @property
    def completion_tokens(self) -> int | None:
        """Tokens of the answer by the server's count, else of the log probabilities."""
        counted = _count(self._usage, "completion_tokens")
        return (len(self._logprobs) or None) if counted is None else counted

    def take(self, body: object) -> str:
        """Take a body, or a stream's chunk; gives the text that it adds.

        Raises:
            Garbled: it is neither.
            ToldError: it is an error.
        """
        if not isinstance(body, Mapping):
            raise Garbled(f"an answer is {one_line(body, limit=200)}; expected a JSON object")
        if body.get("error"):
            raise ToldError(message_of(body))
        if isinstance(body.get("usage"), Mapping):
            self._usage = body["usage"]
        choices = body.get("choices")
        if not isinstance(choices, list):
            raise Garbled(f"an answer without `choices`: {one_line(json.dumps(body), limit=200)}")
        return "".join([self._choice(choice) for choice in choices[:1]])

    def take_json(self, text: str) -> str:
        """Take a body, or a stream's chunk, as its JSON; gives the text that it adds.

        Raises:
            Garbled: it is neither.
            ToldError: it is an error.
        """
        try:
            body = parse_json(text)
        except ValueError as error:
            raise Garbled(f"{one_line(text, limit=200)!r} is no JSON ({error})") from error
        return self.take(body)

    def require_end(self) -> FinishReason:
        """Why the answer ended.

        Raises:
            Garbled: it has not.
        """
        if self._reason is None:
            raise Garbled(f"an answer without finish_reason, after {one_line(self.text)!r:.100}")
        return self._reason

    def _choice(self, choice: object) -> str:
        if not isinstance(choice, Mapping):
            raise Garbled(f"a choice is {one_line(choice, limit=200)}; expected a JSON object")
        holder = choice.get("message") or choice.get("delta")
        within = holder.get("content") if isinstance(holder, Mapping) else None
        text = choice.get("text", within)
        if text is not None and not isinstance(text, str):
            raise Garbled(f"an answer's text is {one_line(text, limit=200)}; expected a string")
        if reason := choice.get("finish_reason"):
            if not isinstance(reason, str) or reason not in _REASONS:
                known = ", ".join(_REASONS)
                raise Garbled(f"finish_reason {one_line(reason)!r:.60}; expected one of {known}")
            self._reason = _REASONS[reason]
        self._logprobs.extend(logprobs_of(choice.get("logprobs")))
        piece = encodable(text or "")
        if piece:
            self._texts.append(piece)
        return piece


def logprobs_of(told: object) -> tuple[TokenChoice, ...]:
    """Log probabilities in either of OpenAI's two shapes, each place's best first.

    A place of which no number is told (the first token of an echoed prompt) is left out.

    Raises:
        Garbled: it is neither shape.
    """
    if not told:
        return ()
    try:
        if isinstance(told, Mapping) and isinstance(told.get("content"), list):
            return tuple(_of_chat(entry) for entry in told["content"])
        if isinstance(told, Mapping) and isinstance(told.get("tokens"), list):
            return tuple(_of_completion(told))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        found = one_line(json.dumps(told), limit=200)
        raise Garbled(f"log probabilities {found}: {type(error).__name__} {error}") from error
    raise Garbled(f"log probabilities {one_line(json.dumps(told), limit=200)}; expected OpenAI's")


def _of_chat(entry: Mapping[str, Any]) -> TokenChoice:
    top = [_token(each) for each in entry.get("top_logprobs") or ()]
    return TokenChoice(_token(entry), _best_first(top))


def _token(entry: Mapping[str, Any]) -> TokenLogprob:
    token_id = entry.get("id")
    text = encodable(str(entry["token"]))
    return TokenLogprob(text, float(entry["logprob"]), None if token_id is None else int(token_id))


def _of_completion(told: Mapping[str, Any]) -> Iterator[TokenChoice]:
    chosen = zip(told["tokens"], told["token_logprobs"], strict=True)
    tops = told.get("top_logprobs") or [None] * len(told["tokens"])
    for (text, logprob), top in zip(chosen, tops, strict=True):
        if logprob is not None:
            ranked = [TokenLogprob(encodable(str(t)), float(p)) for t, p in (top or {}).items()]
            yield TokenChoice(
                TokenLogprob(encodable(str(text)), float(logprob)), _best_first(ranked)
            )


def _best_first(tokens: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
    return tuple(sorted(tokens, key=lambda token: -token.logprob))


def message_of(body: object) -> str:
    """The message of an error, in whichever of the usual places it is; empty when there is none."""
    if isinstance(body, str):
        return one_line(body)
    if isinstance(body, list):
        return one_line("; ".join(filter(None, map(message_of, body))))
    if isinstance(body, Mapping):
        for key in ("error", "message", "detail", "msg"):
            if found := message_of(body.get(key)):
                return found
    return ""


def told_message(text: str) -> str:
    """The message in the body of an error's answer, JSON or plain text; empty when it has none."""
    try:
        return message_of(parse_json(text))
    except ValueError:
        return one_line(text)


def error_message(text: str) -> str:
    """The message in the body of an error's answer, or else the body as it is."""
    return told_message(text) or one_line(text)


def lines_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of an event stream, as they are complete; a last one without an end too."""
    held = b""
    for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
    if held:
        yield held.decode("utf-8", "replace")


def data_of(lines: Iterable[str]) -> Iterator[str]:
    """The data of each event up to and with `[DONE]`; servers send each as a line of its own.

    Raises:
        ToldError: the server names an error instead (llama.cpp's `error: {...}`).
    """
    for line in lines:
        name, _colon, value = line.partition(":")
        if name == "error":
            raise ToldError(error_message(value))
        if name == "data":
            yield value.removeprefix(" ")
            if value.strip() == DONE:
                return


def _count(usage: Mapping[str, Any], key: str) -> int | None:
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
