"""Servers that break what goes over the wire."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.checks.gates.served.asking import FEW_TOKENS
from pytest_aprqa.checks.gates.served.scripted import MODEL, Answer, Asked, Fault
from pytest_aprqa.checks.gates.served.server_labs import (
    HEALTHY,
    edited,
    faulty,
    path,
    saying,
    server_lab,
    streamed,
    whole,
)

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import ServerLab
    from pytest_aprqa.checks.gates.proof import ProofBench

SLOW_S = 1.05


def _ended(bench: ProofBench) -> ServerLab:
    lab = server_lab(bench)
    lab.served.stop(10.0)
    return lab


def _slow(_asked: Asked, answer: Answer) -> Answer:
    time.sleep(SLOW_S)
    return answer


def _plain(_asked: Asked, answer: Answer) -> Answer:
    return replace(answer, headers=answer.headers | {"content-type": "text/plain"})


def _nan(_asked: Asked, answer: Answer) -> Answer:
    return answer.with_text(lambda text: text.replace("{", '{"cost": NaN, ', 1))


def _traced(body: dict[str, Any]) -> None:
    body["brick_trace"] = {"embedding": 0.1}


def _one_id(body: dict[str, Any]) -> None:
    body["id"] = "cmpl-1"


def _echoing(bench: ProofBench) -> ServerLab:
    named: list[str] = []

    def asks(asked: Asked) -> Asked:
        named.append(str(asked.json.get("model", MODEL)))
        return asked.but(model=MODEL)

    def says(_asked: Asked, answer: Answer) -> Answer:
        return answer.edited(lambda body: body.update(model=named[-1]))

    return server_lab(bench, Fault(asks=asks, says=says, at=whole))


def _few(asked: Asked) -> bool:
    return whole(asked) and asked.json.get("max_tokens") == FEW_TOKENS


def _glued(_asked: Asked, answer: Answer) -> Answer:
    return answer.with_text(lambda text: text.replace("\n\n", "\n") + "\n")


def _endless(_asked: Asked, answer: Answer) -> Answer:
    return answer.with_text(lambda text: text.replace("data: [DONE]\n\n", ""))


PROOFS = (
    Proof("F-HTTP-001", "nothing listens at the server's port", _ended, HEALTHY),
    Proof("F-API-003", "the health probe takes 1.05 s", saying(_slow, path("/health")), HEALTHY),
    Proof("F-HTTP-003", "the server names no device", faulty(Fault(device=None)), HEALTHY),
    Proof("F-HTTP-TYPE-001", "answers are said to be text/plain", saying(_plain, whole), HEALTHY),
    Proof("F-HTTP-007", "an answer holds NaN", saying(_nan, _few), HEALTHY),
    Proof("F-HTTP-TRACE-001", "answers hold traces unasked", edited(_traced, _few), HEALTHY),
    Proof("F-HTTP-ID-001", "all answers have one id", edited(_one_id, _few), HEALTHY),
    Proof("F-HTTP-MODEL-001", "answers name whatever model was asked for", _echoing, HEALTHY),
    Proof("F-HTTP-010", "no blank line stands between events", saying(_glued, streamed), HEALTHY),
    Proof("F-HTTP-011", "streams end without [DONE]", saying(_endless, streamed), HEALTHY),
)
