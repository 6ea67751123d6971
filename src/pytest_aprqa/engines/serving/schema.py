"""What a client may ask of our server: the parts of OpenAI's requests that act, checked."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.serving.api_error import ApiError

COMPLETION_TOKENS = 16
"""max_tokens of a completion that names none, as in OpenAI's API."""
CHAT_TOKENS = 1024
"""Most tokens of a chat answer whose request names no limit; the context may leave less."""
MOST_LOGPROBS = 20
"""Of OpenAI's chat API."""
REQUEST_TIMEOUT_S = 600.0
"""A generation is cut here and told with finish_reason `length`."""

_ANY_ENDPOINT: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "n": (1,),
        "top_p": (1,),
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "logit_bias": ({},),
    }
)
_COMPLETION_ONLY: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {**_ANY_ENDPOINT, "echo": (False,), "best_of": (1,), "suffix": ("",)}
)
_CHAT_ONLY: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        **_ANY_ENDPOINT,
        "tools": ([],),
        "functions": ([],),
        "response_format": ({"type": "text"},),
    }
)

_Stop = Annotated[str, Field(min_length=1)]
_Limit = Annotated[int, Field(ge=1)]


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    include_usage: bool | None = None


class Asked(BaseModel):
    """What completions and chat completions have in common; keys that are not known do nothing."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = _ANY_ENDPOINT
    """Values that change nothing, of keys that would change the answer and are not offered."""

    model: str | None = None
    max_tokens: _Limit | None = None
    max_completion_tokens: _Limit | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    seed: int | None = None
    stop: tuple[_Stop, ...] = ()
    ignore_eos: bool | None = None
    """As llama-server, vLLM and SGLang have it: end tokens are tokens like others."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return () if value is None else (value,)
        if not isinstance(value, list):
            raise ValueError("expected a text or a list of texts")
        return tuple(value)

    @property
    def limit(self) -> int | None:
        """Most tokens of the answer, by either of its names."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def _common(self) -> dict[str, Any]:
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "seed": secrets.randbits(63) if self.seed is None else self.seed,
            "stop": self.stop,
            "ignore_eos": bool(self.ignore_eos),
            "timeout_s": REQUEST_TIMEOUT_S,
        }


class CompletionRequest(Asked):
    """The body of POST /v1/completions."""

    neutral = _COMPLETION_ONLY
    prompt: str | tuple[int, ...]
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value and all(type(token) is int for token in value):
            return tuple(value)
        raise ValueError("expected one text, or one list of token ids that is not empty")

    def as_request(self) -> GenerationRequest:
        """What the engine is asked."""
        ids = self.prompt if isinstance(self.prompt, tuple) else ()
        return GenerationRequest(
            prompt=self.prompt if isinstance(self.prompt, str) else None,
            prompt_token_ids=ids,
            max_tokens=self.limit or COMPLETION_TOKENS,
            top_logprobs=0 if self.logprobs is None else max(1, self.logprobs),
            **self._common(),
        )


class TextPart(BaseModel):
    """One part of a message's content."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content in one piece."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(Asked):
    """The body of POST /v1/chat/completions."""

    neutral = _CHAT_ONLY
    messages: list[ChatMessage] = Field(min_length=1)
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None

    @field_validator("top_logprobs")
    @classmethod
    def _with_logprobs(cls, value: int | None, info: Any) -> int | None:
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("expected logprobs to be true as well")
        return value

    def as_request(self) -> GenerationRequest:
        """What the engine is asked; without a limit of its own it is given `CHAT_TOKENS`."""
        return GenerationRequest(
            messages=tuple(Message(m.role, m.text) for m in self.messages),
            max_tokens=self.limit or CHAT_TOKENS,
            top_logprobs=max(1, self.top_logprobs or 0) if self.logprobs else 0,
            **self._common(),
        )


_Kind = TypeVar("_Kind", CompletionRequest, ChatRequest)


def parse(kind: type[_Kind], body: bytes) -> _Kind:
    """The request in a body.

    Raises:
        ApiError: 400: it is no JSON object, a value is wrong, or a key is not offered.
    """
    found = _object(body)
    for key, values in kind.neutral.items():
        if (value := found.get(key)) is not None and value not in values:
            raise ApiError(
                400,
                one_line(f"{key} {value!r} is not offered; expected {values[0]!r} or nothing"),
                param=key,
            )
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = _where(first["loc"])
        said = str(first["msg"]).removeprefix("Value error, ")
        raise ApiError(400, one_line(f"{where}: {said}"), param=where) from error


def _object(body: bytes) -> dict[str, Any]:
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, one_line(f"the body is not valid JSON: {error}")) from error
    if not isinstance(found, dict):
        raise ApiError(400, f"the body is a JSON {type(found).__name__}; expected an object")
    return found


def _where(place: Sequence[int | str]) -> str:
    return ".".join(map(str, place)) or "body"
