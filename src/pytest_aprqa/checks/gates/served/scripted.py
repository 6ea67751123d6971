"""A server of this process over a scripted model, with faults: where servers' proofs plant theirs.

It is the project's own server; a fault changes what reaches it, what leaves it, or its process.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_aprqa.domain.completion import (
    Completion,
    FinishReason,
    GenerationRequest,
    TokenChoice,
    TokenLogprob,
)
from pytest_aprqa.engines.engine import ContextOverflow
from pytest_aprqa.engines.serving.served import Stopped

MODEL = "scripted"
CONTEXT = 2000
WORDS = ("red", "green", "blue", "seven", "house", "river", "tree", "cloud", "stone", "bird")
TAKES_S = 0.001
"""What an answer takes, so that requests meet."""
PAUSE_S = 0.005
"""Between the tokens of an answer that never ends by itself, so that a client can leave it."""
READY_S = 60.0
GRACE_S = 0.2
_END = 0


class ScriptedModel:
    """An engine without a model: 12 to 19 words that hang on the prompt, and on a seed."""

    name, version, device = "scripted", "1", "cpu"
    has_chat_template = True
    context_length: int | None = CONTEXT

    def __init__(self, say: Callable[[GenerationRequest, list[str]], list[str]] | None = None):
        """`say` makes other tokens of those that a request would get."""
        self._say = say

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request."""
        return self.stream(request, lambda _piece: True)

    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        """Answer one request, word by word."""
        if self.count_prompt(request) + request.max_tokens > CONTEXT:
            raise ContextOverflow(f"more than the model's context of {CONTEXT}")
        time.sleep(TAKES_S)
        tokens, reason = self._tokens(request)
        told: list[str] = []
        for token in tokens:
            told.append(token)
            if not tell(token):
                break
            if request.ignore_eos:
                time.sleep(PAUSE_S)
        ends = reason is FinishReason.STOP and not request.stop
        return Completion(
            text="".join(told),
            token_ids=(*range(1, len(told) + 1), *((_END,) if ends else ())),
            prompt_tokens=self.count_prompt(request),
            finish_reason=reason,
            ttft_s=TAKES_S,
            total_s=TAKES_S,
            peak_memory_bytes=0,
            rendered_prompt=_rendered(request),
            logprobs=_choices(told, request.top_logprobs),
        )

    def count_prompt(self, request: GenerationRequest) -> int:
        """Words of the prompt, and one."""
        return len(_rendered(request).split()) + 1

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """A number for each word."""
        return tuple(int.from_bytes(word.encode()[:2], "big") for word in text.split())

    def logits(self, token_ids: Sequence[int]) -> Any:
        """There are none.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a scripted model has no logits")

    def describe(self) -> Mapping[str, str]:
        """What answers."""
        return {"engine": "scripted 1", "device": self.device}

    def close(self) -> None:
        """There is nothing to free."""

    def _tokens(self, request: GenerationRequest) -> tuple[list[str], FinishReason]:
        salt = "" if request.greedy else str(request.seed)
        digest = hashlib.sha256(f"{_rendered(request)}|{salt}".encode()).digest()
        tokens = [f" {WORDS[byte % 10]}{byte % 7}" for byte in digest[: 12 + digest[0] % 8]]
        if self._say is not None:
            tokens = self._say(request, tokens)
        if request.ignore_eos:
            tokens = tokens * (1 + request.max_tokens // max(len(tokens), 1))
        text = "".join(tokens)
        ends = [text.find(stop) for stop in request.stop if stop in text]
        if ends:
            end = min(ends)
            kept = [token[: max(end - len("".join(tokens[:i])), 0)] for i, token in _each(tokens)]
            tokens = [token for token in kept if token]
        if len(tokens) >= request.max_tokens and not ends:
            return tokens[: request.max_tokens], FinishReason.LENGTH
        return tokens, FinishReason.STOP


def _each(tokens: list[str]) -> list[tuple[int, str]]:
    return list(enumerate(tokens))


def _rendered(request: GenerationRequest) -> str:
    if request.messages:
        return "\n".join(f"{message.role}: {message.content}" for message in request.messages)
    return request.prompt or ""


def _choices(tokens: list[str], top: int) -> tuple[TokenChoice, ...]:
    others = (TokenLogprob(" second", -1.5), TokenLogprob(" third", -3.0))
    return tuple(
        TokenChoice(TokenLogprob(token, -0.5), (TokenLogprob(token, -0.5), *others))
        for token in (tokens if top else ())
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    body: bytes
    header_bytes: int = 0

    @property
    def json(self) -> dict[str, Any]:
        """The body's object; empty where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def but(self, **changed: Any) -> Asked:
        """The same with other values in its JSON; None removes a key. No JSON stays as it is."""
        if not self.json:
            return self
        body = {k: v for k, v in (self.json | changed).items() if v is not None}
        return replace(self, body=json.dumps(body).encode())


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer before it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    def edited(self, change: Callable[[dict[str, Any]], object]) -> Answer:
        """The same with its JSON object changed in place."""
        body = json.loads(self.body)
        change(body)
        return replace(self, body=json.dumps(body).encode())

    def with_text(self, change: Callable[[str], str]) -> Answer:
        """The same with its body's text changed."""
        return replace(self, body=change(self.body.decode()).encode())


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a server; by default nothing."""

    asks: Callable[[Asked], Asked] | None = None
    """Changes what reaches the application."""
    says: Callable[[Asked, Answer], Answer] | None = None
    """Changes whole answers to the requests that `at` chooses."""
    at: Callable[[Asked], bool] = lambda _asked: True
    deaf: bool = False
    """It does not notice that a client has left."""
    device: str | None = "cpu"
    """Where it says that it computes."""
    leak_bytes: int = 0
    """What its memory grows by with each request."""
    stopped: str | None = None
    """How it says that it ended, when that was no clean end."""


@dataclass
class ScriptedServer:
    """The project's server in threads of this process; a `Served`."""

    fault: Fault = field(default_factory=Fault)
    engine: Any = field(default_factory=ScriptedModel)
    model_name: str = MODEL
    ours: bool = True
    requests: int = 0

    def __post_init__(self) -> None:
        from pytest_aprqa.engines.serving.app import make_app
        from pytest_aprqa.engines.serving.http_server import bound_socket, make_server, url_of
        from pytest_aprqa.engines.serving.worker import Worker

        self._worker = Worker(self.engine)
        bound = bound_socket("127.0.0.1", 0)
        self.url = url_of(bound)
        ready = threading.Event()
        app = _faulty(make_app(self._worker, self.model_name), self)
        self._server = make_server(app, GRACE_S, ready.set)
        self._thread = threading.Thread(
            target=lambda: self._server.run(sockets=[bound]), name="aprqa-scripted", daemon=True
        )
        self._thread.start()
        ready.wait(READY_S)

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def describe(self) -> Mapping[str, str]:
        """What answers."""
        told = {"engine": "scripted 1"}
        return told if self.fault.device is None else told | {"device": self.fault.device}

    def headers(self) -> dict[str, str]:
        """No key is needed."""
        return {}

    def memory_bytes(self) -> int | None:
        """200 MiB, and what leaks."""
        return 200 * 2**20 + self.fault.leak_bytes * self.requests

    def log_tail(self) -> str:
        """It has no log."""
        return ""

    def stop(self, limit_s: float) -> Stopped:
        """End it as SIGTERM would."""
        began = time.perf_counter()
        self._server.should_exit = True
        self._thread.join(limit_s)
        ended = not self._thread.is_alive() and self._worker.close(limit_s)
        seconds = time.perf_counter() - began
        how = self.fault.stopped or ("ended with status 0" if ended else "went on")
        return Stopped(seconds, how, clean=ended and self.fault.stopped is None)

    def close(self) -> None:
        """End it; a second time does nothing."""
        if self.alive:
            self.stop(READY_S)
        self._worker.close(READY_S)


def _faulty(app: Any, server: ScriptedServer) -> Any:
    fault = server.fault

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        server.requests += 1
        asked = Asked(
            scope["method"],
            scope["path"],
            await _whole_body(receive),
            sum(len(name) + len(value) for name, value in scope["headers"]),
        )
        asked = asked if fault.asks is None else fault.asks(asked)
        scope = scope | {"path": asked.path, "method": asked.method}
        replay = _replay(asked.body, receive, deaf=fault.deaf)
        if fault.says is None or not fault.at(asked):
            await app(scope, replay, send)
            return
        answer = fault.says(asked, await _whole_answer(app, scope, replay))
        headers = answer.headers | {"content-length": str(len(answer.body))}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        start = {"type": "http.response.start", "status": answer.status, "headers": raw}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    return call


async def _whole_body(receive: Any) -> bytes:
    pieces = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


def _replay(body: bytes, receive: Any, *, deaf: bool) -> Any:
    given = False

    async def again() -> Any:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await (asyncio.Event().wait() if deaf else receive())

    return again


async def _whole_answer(app: Any, scope: Any, receive: Any) -> Answer:
    status, headers, pieces = 500, {}, []

    async def keep(message: Any) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            pieces.append(message.get("body", b""))

    await app(scope, receive, keep)
    return Answer(status, headers, b"".join(pieces))
