"""Requests that a server must refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.engines.endpoint_http import Silent, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_aprqa.checks.serve.client import GateClient, Route

UNKNOWN_MODEL = "aprqa-no-such-model"
NEGATIVE_TOKENS = -5
"""llama-server documents -1 as no limit; anything below is wrong for every server."""
MOST_WORDS = 1_000_000
"""Words of the over-long prompt where no context is told: more than most models have tokens."""
_CONTEXT_KEYS = ("max_model_len", "n_ctx", "context_length", "n_ctx_train")


@dataclass(frozen=True, slots=True)
class WrongRequest:
    """One wrong request, and what besides a 4xx may come of it."""

    name: str
    method: str = "POST"
    body: object = None
    content: bytes | None = None
    may_be_404: bool = False
    may_be_served: bool = False
    """Servers of one model may answer for whatever model is named, as llama-server does."""


def wrong_requests(client: GateClient, route: Route) -> tuple[WrongRequest, ...]:
    """Bad JSON, an unknown model, negative max_tokens, an over-long prompt, a wrong method."""
    context = client.prompts.context_length or told_context(client)
    words = MOST_WORDS if context is None else 2 * context
    client.measure(overlong_prompt_words=words)
    few: dict[str, Any] = {"max_tokens": 2}
    prompt = client.prompts.prompts[0]
    return (
        WrongRequest("bad JSON", content=b'{"prompt": "2 + 2 =", "max_tokens": '),
        WrongRequest(
            "an unknown model",
            body=client.body(route, prompt, **few) | {"model": UNKNOWN_MODEL},
            may_be_404=True,
            may_be_served=True,
        ),
        WrongRequest(
            "negative max_tokens", body=client.body(route, prompt, max_tokens=NEGATIVE_TOKENS)
        ),
        WrongRequest("an over-long prompt", body=client.body(route, "word " * words, **few)),
        # 405 is HTTP's word for it; servers whose routes are made of method and path say 404.
        WrongRequest("a wrong method", method="GET", may_be_404=True),
    )


def told_context(client: GateClient) -> int | None:
    """The context in tokens by the server's model list (vLLM, llama-server); None if not told."""
    try:
        body = client.send("GET", "/v1/models").json()
    except (ValueError, Silent, Unreachable):
        return None  # the list has a gate of its own
    return max(_contexts(body), default=None)


def _contexts(node: object) -> Iterator[int]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _CONTEXT_KEYS and isinstance(value, int):
                yield value
            else:
                yield from _contexts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _contexts(value)
