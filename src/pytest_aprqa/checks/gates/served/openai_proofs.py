"""Servers that break each of the fifteen claims, and a healthy one."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.checks.gates.served.scripted import Answer, Asked, Fault
from pytest_aprqa.checks.gates.served.server_labs import (
    HEALTHY,
    asking,
    chats,
    completes,
    edited,
    faulty,
    path,
    saying,
    server_lab,
    status,
    streamed,
    whole,
)


def _other_model(body: dict[str, Any]) -> None:
    body["data"][0]["id"] = "other"


def _without_id(body: dict[str, Any]) -> None:
    del body["id"]


def _as_user(body: dict[str, Any]) -> None:
    body["choices"][0]["message"]["role"] = "user"


def _wrong_total(body: dict[str, Any]) -> None:
    body["usage"]["total_tokens"] += 1


def _chunk_lost(_asked: Asked, answer: Answer) -> Answer:
    events = answer.body.split(b"\n\n")
    return Answer(answer.status, answer.headers, b"\n\n".join(events[:3] + events[4:]))


def _more_tokens(asked: Asked) -> Asked:
    few = asked.json.get("max_tokens", 16)
    return asked.but(max_tokens=few + 1) if few < 10 and not asked.json.get("stream") else asked


def _count_of_requests() -> Any:
    seen: list[int] = []

    def change(asked: Asked) -> Asked:
        if asked.json.get("temperature", 0) > 0:
            seen.append(1)
            return asked.but(seed=len(seen))
        return asked

    return change


def _above_one(body: dict[str, Any]) -> None:
    told = body["choices"][0]["logprobs"]
    if told and "token_logprobs" in told:
        told["token_logprobs"] = [0.5 for _ in told["token_logprobs"]]


def _last_prompt() -> Any:
    """A full-length request is answered as the last other prompt before it, once many came."""
    seen: list[str] = []

    def change(asked: Asked) -> Asked:
        prompt = asked.json.get("prompt")
        if asked.json.get("max_tokens") != 32 or asked.json.get("stream") or prompt is None:
            return asked
        late = len(seen) >= 8 and len(set(seen[:8])) == 8
        # Not simply the one before: which of several at once comes last is chance.
        other = next((one for one in reversed(seen) if one != prompt), None) if late else None
        seen.append(prompt)
        return asked if other is None else asked.but(prompt=other)

    return change


def _bad_json(asked: Asked) -> bool:
    return asked.method == "POST" and not asked.json


PROOFS = (
    Proof("F-HTTP-002", "the health probe answers 500", status(500, path("/health")), HEALTHY),
    Proof(
        "F-HTTP-MODELS-001",
        "the model list names another model",
        edited(_other_model, path("/v1/models")),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-COMPLETIONS-001",
        "completions have no id",
        edited(_without_id, lambda a: completes(a) and a.json["max_tokens"] == 32),
        HEALTHY,
        also=("F-HTTP-STREAM-001",),
    ),
    Proof(
        "F-HTTP-005",
        "the answer in a chat is the user's",
        edited(_as_user, lambda a: chats(a) and a.json["max_tokens"] == 32),
        HEALTHY,
        also=("F-HTTP-STREAM-001",),
    ),
    Proof(
        "F-HTTP-STREAM-001", "a chunk of a stream is lost", saying(_chunk_lost, streamed), HEALTHY
    ),
    Proof(
        "F-HTTP-014",
        "the total of usage is one too many",
        edited(_wrong_total, lambda a: whole(a) and a.json["max_tokens"] != 1),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-STOP-001",
        "stop strings are ignored",
        asking(lambda asked: asked.but(stop=None)),
        HEALTHY,
    ),
    Proof("F-HTTP-LIMIT-001", "max_tokens is one too many", asking(_more_tokens), HEALTHY),
    Proof(
        "F-HTTP-SEED-001",
        "the seed is another at each request",
        lambda bench: server_lab(bench, Fault(asks=_count_of_requests())),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-LOGPROBS-001",
        "log probabilities are above 0",
        edited(_above_one, lambda a: completes(a) and "logprobs" in a.json),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-019",
        "a request among others gets the answer of another one before it",
        lambda bench: server_lab(bench, Fault(asks=_last_prompt())),
        HEALTHY,
        also=("F-API-004",),
    ),
    Proof("F-API-004", "JSON that is none gets a 500", status(500, _bad_json), HEALTHY),
    Proof(
        "F-HTTP-DISCONNECT-001",
        "the server does not notice that clients leave",
        faulty(Fault(deaf=True)),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-MEMORY-001",
        "each request leaves 300 KiB behind",
        faulty(Fault(leak_bytes=300 * 1024)),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-004",
        "SIGTERM ends the server with an error",
        faulty(Fault(stopped="ended with status 3")),
        server_lab,
    ),
)
