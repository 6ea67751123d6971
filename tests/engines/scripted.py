"""An engine that runs nothing: for what is decided around engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest


class ScriptedEngine:
    """Answers every request with `4`."""

    name = "scripted"
    version = "1"
    device = "cpu"
    has_chat_template = True
    context_length = 512

    def __init__(self) -> None:
        self.closed = False

    def generate(self, request: GenerationRequest) -> Completion:
        return Completion(
            "4", (1,), 4, FinishReason.STOP, 0.001, 0.003, 1 << 20, request.prompt or ""
        )

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        return tuple(text.encode()) + ((256,) if special else ())

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        return np.zeros((len(token_ids), 257), np.float32)

    def describe(self) -> dict[str, str]:
        return {"engine": "scripted 1"}

    def close(self) -> None:
        self.closed = True
