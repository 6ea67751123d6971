"""Labs over scripted servers, for the proofs of servers' gates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.proof import shared
from pytest_aprqa.checks.gates.served.scripted import (
    Answer,
    Asked,
    Fault,
    ScriptedModel,
    ScriptedServer,
)
from pytest_aprqa.checks.serve.prompts import ServePrompts

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.proof import ProofBench

PROMPTS = ServePrompts(timeout_s=10.0, stop_s=10.0)
Maker = Callable[["ProofBench"], ServerLab]


def server_lab(
    bench: ProofBench, fault: Fault | None = None, engine: Any = None, **other: Any
) -> ServerLab:
    """A lab over a new scripted server, which the bench closes."""
    server = ScriptedServer(fault or Fault(), engine or ScriptedModel(), **other)
    return ServerLab(bench.owned(server), PROMPTS)


def faulty(fault: Fault) -> Maker:
    """A maker of a lab over a scripted server with a fault."""
    return lambda bench: server_lab(bench, fault)


def saying(
    change: Callable[[Asked, Answer], Answer], at: Callable[[Asked], bool] | None = None
) -> Maker:
    """A maker of a lab over a scripted server whose answers are changed."""
    return faulty(Fault(says=change, at=at or (lambda _asked: True)))


def edited(change: Callable[[dict[str, Any]], object], at: Callable[[Asked], bool]) -> Maker:
    """A maker of a lab over a scripted server whose answers' JSON is changed in place."""
    return saying(lambda _asked, answer: answer.edited(change), at)


def status(code: int, at: Callable[[Asked], bool]) -> Maker:
    """A maker of a lab over a scripted server that gives these requests another status."""
    body = b'{"error": {"message": "broken"}}'
    headers = {"content-type": "application/json"}
    return saying(lambda _asked, _answer: Answer(code, headers, body), at)


def asking(change: Callable[[Asked], Asked]) -> Maker:
    """A maker of a lab over a scripted server to which requests come changed."""
    return faulty(Fault(asks=change))


def whole(asked: Asked) -> bool:
    """Whether a request asks for an answer that is not streamed."""
    return asked.method == "POST" and "model" in asked.json and not asked.json.get("stream")


def streamed(asked: Asked) -> bool:
    """Whether a request asks for a stream."""
    return bool(asked.json.get("stream"))


def chats(asked: Asked) -> bool:
    """Whether a request asks for a chat completion that is not streamed."""
    return whole(asked) and "messages" in asked.json


def completes(asked: Asked) -> bool:
    """Whether a request asks for a plain completion that is not streamed."""
    return whole(asked) and "prompt" in asked.json


def path(wanted: str) -> Callable[[Asked], bool]:
    """Whether a request is to this path."""
    return lambda asked: asked.path == wanted


HEALTHY = shared("scripted server", server_lab)
"""One healthy scripted server for all gates that leave it healthy."""
