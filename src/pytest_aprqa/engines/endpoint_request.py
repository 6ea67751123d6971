"""A request as OpenAI's API has it, and what a server's refusal of it means."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.engines.endpoint_answer import error_message
from pytest_aprqa.engines.endpoint_served import refuse_key
from pytest_aprqa.engines.engine import (
    ContextOverflow,
    EngineCrashed,
    InvalidRequest,
    NoChatTemplate,
)
from pytest_aprqa.engines.generation import encodable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.engines.endpoint_http import Reply

FEWER_LOGPROBS = 5
"""What OpenAI's completions tell at most, and servers that tell fewer than was asked."""
FIRST_WAIT_S = 0.5
"""Before a busy server is asked again where it does not say how long; doubled each time."""

# llama.cpp: "exceeds the available context size"; vLLM: "maximum context length is"; SGLang:
# "longer than the model's context length"; TGI: "`inputs` tokens + `max_new_tokens` must be <=".
_TOO_LONG = re.compile(
    r"context[ _](size|length|window)|max_model_len|max_total_tokens"
    r"|(inputs|prompt)\W.{0,60}(must (be|have) (<=|less)|too long|exceed)",
    re.IGNORECASE | re.DOTALL,
)
# vLLM: "default chat template is no longer allowed"; transformers: "tokenizer.chat_template is not
# set"; TGI: "template not found"; Ollama: "does not support chat".
_NO_TEMPLATE = re.compile(
    r"template.{0,80}(no longer|not (set|found|defined|supported)|missing|is none|is empty)"
    r"|(\bno\b|without|must provide|not (have|define)|missing|lacks?).{0,30}(chat[ _])?template"
    r"|does not support chat",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: where it goes, and its body."""

    path: str
    body: Mapping[str, Any]

    @property
    def chat(self) -> bool:
        """Whether it is of chat messages."""
        return "messages" in self.body

    def without(self, *keys: str) -> Ask:
        """The request without some of its settings."""
        return replace(self, body={k: v for k, v in self.body.items() if k not in keys})


def ask_of(request: GenerationRequest, model: str, *, stream: bool) -> Ask:
    """The request for an OpenAI-compatible server; greedy is temperature 0."""
    greedy = request.greedy
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": 0 if greedy else request.temperature,
        "seed": request.seed,
    }
    if request.stop:
        body["stop"] = [encodable(text) for text in request.stop]
    if request.ignore_eos:
        body["ignore_eos"] = True  # llama-server, vLLM, SGLang and our own server know it
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if not request.messages:
        more = {"logprobs": request.top_logprobs} if request.top_logprobs else {}
        ids = list(request.prompt_token_ids)
        return Ask(
            "/v1/completions", body | {"prompt": ids or encodable(request.prompt or "")} | more
        )
    more = {"logprobs": True, "top_logprobs": request.top_logprobs} if request.top_logprobs else {}
    messages = [{"role": m.role, "content": encodable(m.content)} for m in request.messages]
    return Ask("/v1/chat/completions", body | {"messages": messages} | more)


def rendered(request: GenerationRequest) -> str:
    """The prompt, or the messages as lines `role: content`; the server's template is its own."""
    if request.prompt is not None:
        return encodable(request.prompt)
    if request.prompt_token_ids:
        return f"token ids {list(request.prompt_token_ids)}"
    return "\n".join(f"{m.role}: {encodable(m.content)}" for m in request.messages)


def plainer(ask: Ask, refusal: Reply) -> Ask | None:
    """The request without what the server's refusal names and an answer can do without, or None.

    Many servers tell fewer log probabilities than were asked for, or none; some know no
    `stream_options`.
    """
    message = error_message(refusal.text).lower()
    if not 400 <= refusal.status < 500:
        return None
    if "stream_options" in message and "stream_options" in ask.body:
        return ask.without("stream_options")
    if "logprobs" in message and "logprobs" in ask.body:
        key = "top_logprobs" if ask.chat else "logprobs"
        if ask.body[key] > FEWER_LOGPROBS:
            return replace(ask, body={**ask.body, key: FEWER_LOGPROBS})
        return ask.without("logprobs", "top_logprobs")
    return None


def wait_before(refusal: Reply, attempt: int) -> float | None:
    """Seconds after which a busy server (429, 503) may be asked again; None for other refusals."""
    if refusal.status not in (429, 503):
        return None
    otherwise = FIRST_WAIT_S * float(2**attempt)
    told = refusal.headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told)
    if told:
        try:
            until = parsedate_to_datetime(told)
            return max((until - datetime.now(UTC)).total_seconds(), 0.0)
        except (ValueError, TypeError):  # no date, or one without a time zone
            return otherwise
    return otherwise


def no_template(message: str) -> bool:
    """Whether a server's message says that the model has no chat template."""
    return _NO_TEMPLATE.search(message) is not None


def too_long(message: str) -> bool:
    """Whether a server's message says that the request does not fit the model's context."""
    return _TOO_LONG.search(message) is not None


def refusal_error(
    ask: Ask, refusal: Reply, url: str, key_variables: tuple[str, ...], log_tail: str
) -> Exception:
    """What a refused request is, as an error to raise.

    Raises:
        EngineUnavailable: the server wants a key.
    """
    message = error_message(refusal.text)
    told = f"{url}{ask.path} answered {refusal.status}: {message or 'without a message'}"
    if refusal.status in (401, 403):
        refuse_key(url, refusal.status, message, key_variables)
    if 300 <= refusal.status < 400:
        target = refusal.headers.get("location", "elsewhere")
        return InvalidRequest(
            f"{url}{ask.path} answered {refusal.status} and points to {target}; redirects are not "
            "followed, as the key would go there too: give the endpoint's own URL"
        )
    if ask.chat and no_template(message):
        return NoChatTemplate(f"the model has no chat template; {told}")
    if 400 <= refusal.status < 500 and refusal.status != 429:
        return ContextOverflow(told) if too_long(message) else InvalidRequest(told)
    return EngineCrashed(told, log_tail)
