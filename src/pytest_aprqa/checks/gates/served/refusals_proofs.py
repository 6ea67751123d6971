"""Servers that take what they should refuse, or break on it."""

from __future__ import annotations

from typing import Any

from pytest_aprqa.checks.gates.proof import Proof
from pytest_aprqa.checks.gates.served.refusals import BODY_BYTES
from pytest_aprqa.checks.gates.served.scripted import Answer, Asked
from pytest_aprqa.checks.gates.served.server_labs import HEALTHY, asking, edited, saying, status

_STACK = 'Traceback (most recent call last):\n  File "/srv/app.py", line 7, in parse'


def _found(_asked: Asked, _answer: Answer) -> Answer:
    return Answer(200, {"content-type": "application/json"}, b"{}")


def _nowhere(asked: Asked) -> bool:
    return asked.method == "GET" and "no-such-path" in asked.path


def _with_stack(body: dict[str, Any]) -> None:
    body["error"]["message"] = _STACK


def _bad_json(asked: Asked) -> bool:
    return asked.body == b"{"


def _no_object(asked: Asked) -> bool:
    return asked.method == "POST" and asked.body in (b"null", b'"text"')


def _lenient(asked: Asked) -> Asked:
    return asked.but(max_tokens=4) if asked.json.get("max_tokens") == "ten" else asked


PROOFS = (
    Proof("F-HTTP-404-001", "unknown paths get a 200", saying(_found, _nowhere), HEALTHY),
    Proof(
        "F-HTTP-METHOD-001",
        "the model list can be deleted",
        status(200, lambda asked: asked.method == "DELETE"),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-LEAK-001",
        "an error shows the server's stack",
        edited(_with_stack, _bad_json),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-HEADER-001",
        "a huge header gets a 500",
        status(500, lambda asked: asked.header_bytes > 50_000),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-BODY-001",
        "a huge body gets a 500",
        status(500, lambda asked: len(asked.body) > BODY_BYTES),
        HEALTHY,
    ),
    Proof(
        "F-HTTP-015",
        "a chat without messages gets a 500",
        status(500, lambda asked: asked.json.get("messages") == []),
        HEALTHY,
    ),
    Proof("F-HTTP-017", "null and a text get a 500", status(500, _no_object), HEALTHY),
    Proof("F-HTTP-FIELDS-001", "a limit of 'ten' is taken for 4", asking(_lenient), HEALTHY),
    Proof(
        "F-HTTP-018",
        "a million tokens get a 500",
        status(500, lambda asked: asked.json.get("max_tokens") == 1_000_000),
        HEALTHY,
    ),
)
