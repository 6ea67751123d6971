"""The HTTP interface of a served model: OpenAI's completions, chat completions and model list."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.engines.serving.api_error import ApiError
from pytest_aprqa.engines.serving.exchange import (
    ClientLeft,
    EventStream,
    Exchange,
    unless_left,
)
from pytest_aprqa.engines.serving.responses import ChatShape, CompletionShape
from pytest_aprqa.engines.serving.schema import ChatRequest, CompletionRequest, parse

if TYPE_CHECKING:
    from pytest_aprqa.engines.serving.responses import Shape
    from pytest_aprqa.engines.serving.worker import Worker

BODY_BYTES = 16 * 1024 * 1024
"""Most bytes of a request; a prompt of a million tokens has fewer."""
_CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that left; only the log sees it."""


def make_app(worker: Worker, model_name: str) -> Any:
    """A starlette application whose answers come from the worker's engine."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    api = _Api(worker, model_name, int(time.time()))
    return Starlette(
        routes=[
            Route("/health", api.health, methods=["GET"]),
            Route("/v1/models", api.models, methods=["GET"]),
            Route("/v1/models/{name:path}", api.model, methods=["GET"]),
            Route("/v1/completions", api.completions, methods=["POST"]),
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
        ],
        exception_handlers={ApiError: _told, HTTPException: _told_by_starlette, Exception: _crash},
    )


@dataclass(frozen=True, slots=True)
class _Api:
    worker: Worker
    model_name: str
    created: int

    async def health(self, _request: Any) -> Any:
        return _json({"status": "ok"})

    async def models(self, _request: Any) -> Any:
        return _json({"object": "list", "data": [self._entry()]})

    async def model(self, request: Any) -> Any:
        self._require_model(request.path_params["name"])
        return _json(self._entry())

    async def completions(self, request: Any) -> Any:
        asked = parse(CompletionRequest, await _body(request))
        return await self._answer(request, asked, CompletionShape(self.model_name, asked.logprobs))

    async def chat(self, request: Any) -> Any:
        asked = parse(ChatRequest, await _body(request))
        told = (asked.top_logprobs or 0) if asked.logprobs else None
        return await self._answer(request, asked, ChatShape(self.model_name, told))

    async def _answer(
        self, request: Any, asked: CompletionRequest | ChatRequest, shape: Shape
    ) -> Any:
        self._require_model(asked.model)
        open_end = isinstance(asked, ChatRequest) and asked.limit is None
        exchange = Exchange(self.worker, asked.as_request(), open_end=open_end)
        try:
            if asked.stream:
                first = await unless_left(request.receive, exchange.next())
                return EventStream(exchange, first, shape, wants_usage=asked.wants_usage)
            completion = await unless_left(request.receive, exchange.whole())
        except ClientLeft:
            exchange.leave()
            return _json({}, status=_CLIENT_CLOSED_REQUEST)
        except BaseException:  # refused, crashed, or cut at the end of the server
            exchange.leave()
            raise
        return _json(shape.whole(completion))

    def _require_model(self, name: str | None) -> None:
        if name not in (None, self.model_name):
            raise ApiError(
                404,
                f"the model {name!r} is not served here; expected {self.model_name!r}",
                param="model",
                code="model_not_found",
            )

    def _entry(self) -> dict[str, Any]:
        return {
            "id": self.model_name,
            "object": "model",
            "created": self.created,
            "owned_by": "pytest-aprqa",
        }


async def _body(request: Any) -> bytes:
    from starlette.requests import ClientDisconnect

    read = bytearray()
    try:
        async for piece in request.stream():
            read += piece
            if len(read) > BODY_BYTES:
                raise ApiError(413, f"the body has more than {BODY_BYTES} bytes")
    except ClientDisconnect:
        raise ApiError(400, "the body is not whole") from None
    return bytes(read)


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Any:
    from starlette.responses import Response

    return Response(
        json.dumps(value, allow_nan=False),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


async def _told(_request: Any, error: Any) -> Any:
    return _json(error.body, error.status, error.headers)


async def _told_by_starlette(request: Any, error: Any) -> Any:
    """An unknown path or a wrong method, in the shape of every other error."""
    where = f"{request.method} {request.url.path}"
    what = f"{where}: {error.detail}"
    if allowed := (error.headers or {}).get("Allow"):
        what += f"; expected {' or '.join(sorted(allowed.split(', ')))}"
    return _json(ApiError(error.status_code, what).body, error.status_code, error.headers)


async def _crash(_request: Any, error: Exception) -> Any:
    return _json(ApiError(500, f"{type(error).__name__} in the server").body, 500)
