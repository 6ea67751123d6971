"""Requests that batches of every engine are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_aprqa.domain.completion import Completion, GenerationRequest, Message


def arithmetic(count: int) -> list[GenerationRequest]:
    """Different questions of different length, plain prompts and chats in turn."""
    asked = []
    for number in range(count):
        a, b = 2 + number % 11, 3 + number % 7
        question = (f"What is {a} + {b}?", f"Calculate {a} * {b}", f"Hello {a}! What is {b} - 1?")[
            number % 3
        ]
        if number % 2:
            asked.append(GenerationRequest(prompt=question))
        else:
            asked.append(GenerationRequest(messages=(Message("user", question),)))
    return asked


def answers(found: Sequence[Completion | None]) -> list[Any]:
    """What must not depend on the company that a request was in."""
    return [
        None
        if one is None
        else (one.text, one.token_ids, one.finish_reason, one.rendered_prompt, one.prompt_token_ids)
        for one in found
    ]
