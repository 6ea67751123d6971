"""Engines whose batches are what the test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pytest_aprqa.domain.case import Case, Judging, Target
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.model import Backend, Format, Modality, Severity
from pytest_aprqa.domain.oracle_spec import GarbageSpec
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.engines.engine import EngineCrashed

VOCABULARY = 32
TARGET = Target("org/model", Format.SAFETENSORS, None, Backend.CPU)


def case(index: int, **settings: Any) -> Case:
    """A greedy question, the same for the same number."""
    asked = Case(
        target=TARGET,
        modality=Modality.RUN,
        scenario=f"s{index}",
        index=index,
        turns=(f"question {index}",),
        system=None,
        judging=Judging(offered=(GarbageSpec(),)),
        max_tokens=8,
        temperature=0.0,
        seed=0,
        timeout_ms=1000,
        stop=(),
        severity=Severity.P1,
        category=Category.QUAL,
    )
    return replace(asked, **settings)


def cases(count: int) -> list[Case]:
    """That many greedy questions."""
    return [case(index) for index in range(count)]


@dataclass
class AloneEngine:
    """Answers one request at a time."""

    margin: float = 5.0
    """How far the logit of the token that is picked alone lies above that of token 9."""
    dtype: str = "float32"
    asked: list[str] = field(default_factory=list)
    closed: bool = False
    name = "scripted"
    version = "1"
    device = "cpu"
    has_chat_template = True
    context_length = None

    def generate(self, request: GenerationRequest) -> Completion:
        self.asked.append(request.prompt or "")
        return self.answer(request)

    def answer(self, request: GenerationRequest, *tokens: int, **more: Any) -> Completion:
        """Tokens 1, 2 and 3, or others."""
        ids = tokens or (1, 2, 3)
        return Completion(
            f"tokens {ids}",
            ids,
            4,
            FinishReason.STOP,
            0.01,
            0.03,
            1 << 20,
            request.prompt or "",
            prompt_token_ids=(7, 8),
            **more,
        )

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        return (len(text),)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        rows = np.zeros((len(token_ids), VOCABULARY), np.float32)
        rows[:, [1, 2, 3]] = self.margin
        return rows

    def describe(self) -> Mapping[str, str]:
        return {"engine": "scripted 1", "dtype": self.dtype}

    def close(self) -> None:
        self.closed = True


@dataclass
class BatchEngine(AloneEngine):
    """Answers several at once; some otherwise than alone, some not at all."""

    others: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    """What a batch answers to a prompt in place of 1, 2, 3; None: it must be asked alone."""
    breaks: bool = False
    batches: list[int] = field(default_factory=list)

    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        self.batches.append(len(requests))
        if self.breaks:
            raise EngineCrashed("RuntimeError: the batch broke")
        answers: list[Completion | None] = []
        for request in requests:
            tokens = self.others.get(request.prompt or "", ())
            size = len(requests)
            answers.append(
                None if tokens is None else self.answer(request, *tokens, batch_size=size)
            )
        return tuple(answers)
