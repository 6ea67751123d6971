"""The one thread that owns the engine: requests wait for it in order, and may leave."""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, StreamingEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.domain.completion import Completion, GenerationRequest

CAPACITY = 64
"""Most requests that wait; a client's own time limit would end a longer wait anyway."""


class ServableEngine(StreamingEngine, Protocol):
    """What the server needs of an engine."""

    def count_prompt(self, request: GenerationRequest) -> int:
        """How many tokens the request's prompt has.

        Raises:
            InvalidRequest: the model cannot be asked this.
        """


class QueueFull(Exception):
    """As many requests wait as may."""


@dataclass(eq=False, slots=True)
class Job:
    """One request on its way."""

    request: GenerationRequest
    tell: Callable[[str | Completion | Exception], None]
    """Called in the worker's thread with pieces of text, then the completion or an exception."""
    open_end: bool = False
    """The request names no limit: its max_tokens is cut to what the context leaves."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the answer any more."""


class Worker:
    """Answers jobs one after the other with an engine that no other thread touches."""

    def __init__(self, engine: ServableEngine, *, capacity: int = CAPACITY) -> None:
        self._engine = engine
        self._capacity = capacity
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="aprqa-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._changed:
            return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        with self._changed:
            return self._running is not None

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFull: there is no room, or the worker is closed.
        """
        with self._changed:
            if self._closed or len(self._waiting) >= self._capacity:
                raise QueueFull
            self._waiting.append(job)
            self._changed.notify()

    def leave(self, job: Job) -> None:
        """Nobody wants the job's answer: its place is free now, or at the next token."""
        job.left.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self, limit_s: float) -> bool:
        """Answer no more; the running job ends at its next token. True when it did in time."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            if self._running is not None:
                self._running.left.set()
            self._changed.notify()
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._answer(job)

    def _next(self) -> Job | None:
        with self._changed:
            self._running = None
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            self._running = self._waiting.popleft()
            return self._running

    def _answer(self, job: Job) -> None:
        def tell(piece: str) -> bool:
            if piece:
                job.tell(piece)
            return not job.left.is_set()

        try:
            if job.open_end:
                job.request = self._cut_to_context(job.request)
            job.tell(self._engine.stream(job.request, tell))
        except InvalidRequest as error:
            job.tell(error)
        except Exception as error:
            crash = (
                error if isinstance(error, EngineCrashed) else EngineCrashed.from_exception(error)
            )
            sys.stderr.write(f"{crash}\n{crash.traceback_tail}")
            sys.stderr.flush()
            job.tell(crash)

    def _cut_to_context(self, request: GenerationRequest) -> GenerationRequest:
        context = self._engine.context_length
        if context is None:
            return request
        room = context - self._engine.count_prompt(request)
        return replace(request, max_tokens=max(1, min(request.max_tokens, room)))
