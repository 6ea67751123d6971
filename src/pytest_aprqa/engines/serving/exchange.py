"""One client's request between the event loop and the worker's thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import Completion
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest
from pytest_aprqa.engines.serving.api_error import ApiError, refusal_of
from pytest_aprqa.engines.serving.worker import Job, QueueFull, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping

    from pytest_aprqa.domain.completion import GenerationRequest
    from pytest_aprqa.engines.serving.responses import Shape

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RETRY_AFTER_S = 1
"""What a client is told to wait when the queue is full."""
DONE = b"data: [DONE]\n\n"
"""The end of a whole stream."""


class ClientLeft(Exception):
    """The client has closed its connection."""


class Exchange:
    """A job in the worker and what it tells, as the event loop sees it."""

    def __init__(self, worker: Worker, request: GenerationRequest, *, open_end: bool) -> None:
        """Queue the request.

        Raises:
            ApiError: 503: the queue is full.
        """
        loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[str | Completion | Exception] = asyncio.Queue()

        def tell(news: str | Completion | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
                loop.call_soon_threadsafe(self._told.put_nowait, news)

        self._worker = worker
        self._job = Job(request, tell, open_end)
        try:
            worker.submit(self._job)
        except QueueFull:
            raise ApiError(
                503,
                f"{worker.waiting} requests wait already; try again later",
                code="queue_full",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            ) from None

    async def next(self) -> str | Completion:
        """The next piece of text, at the end the completion.

        Raises:
            ApiError: 400: the model cannot be asked this; 500: the engine crashed.
        """
        news = await self._told.get()
        if isinstance(news, InvalidRequest):
            raise refusal_of(news)
        if isinstance(news, EngineCrashed):
            raise ApiError(500, f"the engine crashed: {news}", code="engine_crashed")
        assert not isinstance(news, Exception)
        return news

    async def whole(self) -> Completion:
        """The completion.

        Raises:
            ApiError: as `next` does.
        """
        while isinstance(news := await self.next(), str):
            continue
        return news

    def leave(self) -> None:
        """The answer is not wanted, or not any more."""
        self._worker.leave(self._job)


async def unless_left(receive: Receive, answer: Coroutine[Any, Any, Any]) -> Any:
    """The answer's result, unless the client leaves before it is there.

    Raises:
        ClientLeft: it did; the answer is cancelled.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue

    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientLeft
        return answering.result()
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


class EventStream:
    """An ASGI response that sends an answer as server-sent events while it grows."""

    def __init__(
        self, exchange: Exchange, first: str | Completion, shape: Shape, *, wants_usage: bool
    ) -> None:
        """`first` is the news that has come already: before it, a failure has a status."""
        self._exchange = exchange
        self._first = first
        self._shape = shape
        self._wants_usage = wants_usage

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Send it all, or as much as there is until the client leaves."""
        try:
            await unless_left(receive, self._send(send))
        except ClientLeft:
            scope.setdefault("state", {})["left"] = True
        finally:
            self._exchange.leave()

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for data in self._events():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> AsyncIterator[bytes]:
        if (chunk := self._shape.first()) is not None:
            yield self._data(chunk)
        news = self._first
        try:
            while isinstance(news, str):
                yield self._data(self._shape.piece(news))
                news = await self._exchange.next()
        except ApiError as error:  # too late for a status: no [DONE] says that it is not whole
            yield self._data(error.body)
            return
        yield self._data(self._shape.last(news))
        if self._wants_usage:
            yield event(self._shape.usage(news))
        yield DONE

    def _data(self, chunk: dict[str, Any]) -> bytes:
        return event({**chunk, "usage": None} if self._wants_usage else chunk)


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, allow_nan=False).encode("ascii") + b"\n\n"


def logged(app: Any, write: Callable[[str], None]) -> Any:
    """The ASGI app, and one line for each request: method, path, status, seconds."""

    async def call(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            left = " client left" if scope.get("state", {}).get("left") else ""
            seconds = time.perf_counter() - began
            write(f"{scope['method']} {scope['path']} {status or '-'} {seconds:.2f} s{left}")

    return call
