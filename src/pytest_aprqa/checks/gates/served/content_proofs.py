"""Servers whose answers are no text, or to whose model a chat does not come whole."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.checks.gates.served.scripted import Answer, Asked, Fault, ScriptedModel
from pytest_aprqa.checks.gates.served.server_labs import (
    HEALTHY,
    Maker,
    asking,
    chats,
    edited,
    server_lab,
    whole,
)

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import ServerLab
    from pytest_aprqa.checks.gates.proof import ProofBench
    from pytest_aprqa.domain.completion import GenerationRequest


def _speaking(change: Callable[[GenerationRequest, list[str]], list[str]]) -> Maker:
    return lambda bench: server_lab(bench, engine=ScriptedModel(change))


def _no_content(body: dict[str, Any]) -> None:
    body["choices"][0]["message"]["content"] = None


def _few_chats(asked: Asked) -> bool:
    return chats(asked) and asked.json["max_tokens"] < 32


def _mostly_silent(request: GenerationRequest, tokens: list[str]) -> list[str]:
    return tokens if "France" in (request.prompt or "") else []


def _as_ids(_request: GenerationRequest, tokens: list[str]) -> list[str]:
    return [f"token{137 * number + 10} " for number, _ in enumerate(tokens)]


def _as_glyphs(_request: GenerationRequest, tokens: list[str]) -> list[str]:
    return [token.replace(" ", "Ġ") for token in tokens]


def _with_control(request: GenerationRequest, tokens: list[str]) -> list[str]:
    return [*tokens, "<|im_end|>"] if request.messages else tokens


def _halves(_request: GenerationRequest, tokens: list[str]) -> list[str]:
    return [*tokens[:3], "\ufffd\ufffd", *tokens[3:]]


def _without_system(asked: Asked) -> Asked:
    messages = asked.json.get("messages", [])
    kept = [message for message in messages if message["role"] != "system"]
    return asked.but(messages=kept) if len(kept) < len(messages) else asked


def _last_turn(asked: Asked) -> Asked:
    messages = asked.json.get("messages", [])
    first = messages[:1] if messages and messages[0]["role"] == "system" else []
    return asked.but(messages=[*first, messages[-1]]) if len(messages) > 2 else asked


def _wavering(bench: ProofBench) -> ServerLab:
    number = itertools.count()

    def change(_request: GenerationRequest, tokens: list[str]) -> list[str]:
        return [f" {next(number)}", *tokens]

    def ascii_alone(asked: Asked, answer: Answer) -> Answer:
        """The gate of escapes asks twice too: it gets one answer."""
        stars = "Count the stars" in str(asked.json.get("prompt"))
        return answer.edited(_steady) if stars else answer

    return server_lab(bench, Fault(says=ascii_alone, at=whole), ScriptedModel(change))


def _steady(body: dict[str, Any]) -> None:
    body["choices"][0]["text"] = "many"


def _latin(asked: Asked) -> Asked:
    """UTF-8 that is read as Latin-1, as it may be where no charset is told."""
    if asked.body.isascii():
        return asked
    body = json.loads(asked.body.decode("latin-1"))
    return Asked(asked.method, asked.path, json.dumps(body).encode())


PROOFS = (
    Proof("F-HTTP-006", "the content of a chat is null", edited(_no_content, _few_chats), HEALTHY),
    Proof("F-HTTP-008", "all answers but two are empty", _speaking(_mostly_silent), HEALTHY),
    Proof("F-HTTP-009", "answers are token137 and the like", _speaking(_as_ids), HEALTHY),
    Proof("F-HTTP-009b", "spaces are told as Ġ", _speaking(_as_glyphs), HEALTHY),
    Proof("F-API-002", "chats end in <|im_end|>", _speaking(_with_control), HEALTHY),
    Proof("F-HTTP-020", "characters are cut in two", _speaking(_halves), HEALTHY),
    Proof("F-HTTP-012", "system texts are dropped", asking(_without_system), HEALTHY),
    Proof("F-HTTP-013", "all turns but the last are dropped", asking(_last_turn), HEALTHY),
    Proof("F-HTTP-016", "no two answers are alike", _wavering, HEALTHY),
    Proof("F-HTTP-UTF8-001", "UTF-8 is read as Latin-1", asking(_latin), HEALTHY),
)
