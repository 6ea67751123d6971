"""Short questions to a target's engine, and what was answered once and is used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.domain.completion import Completion, GenerationRequest, Message
from pytest_aprqa.domain.tolerance import BATCH_NOISE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_aprqa.checks.gates.lab import TargetLab
    from pytest_aprqa.engines.engine import Engine

FEW = 8
"""Tokens of a short answer."""
MORE = 16
"""Tokens of a longer one."""
CHAT = (Message("user", "Hello"),)
OPEN = "Once upon a time"
"""A beginning that leaves much open."""


def plain(
    prompt: str,
    *,
    max_tokens: int = FEW,
    temperature: float = 0.0,
    seed: int = 0,
    stop: tuple[str, ...] = (),
    timeout_s: float = 60.0,
    top_logprobs: int = 0,
) -> GenerationRequest:
    """A plain prompt."""
    return GenerationRequest(
        prompt=prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        stop=stop,
        timeout_s=timeout_s,
        top_logprobs=top_logprobs,
    )


def chat(messages: Sequence[Message], *, max_tokens: int = FEW) -> GenerationRequest:
    """A chat, greedy."""
    return GenerationRequest(messages=tuple(messages), max_tokens=max_tokens)


def first_prompt(_lab: TargetLab) -> str:
    """What every gate here asks that needs no other: an open beginning, on which models go on."""
    return OPEN


def greedy(lab: TargetLab) -> tuple[Completion, ...]:
    """Greedy answers of MORE tokens to OPEN and to the first few of the playbook's prompts."""
    prompts = [OPEN, *(p for p in lab.prompts if p.strip())][:4]
    return tuple(lab.engine.generate(plain(p, max_tokens=MORE)) for p in prompts)


def prompt_ids(lab: TargetLab, completion: Completion) -> tuple[int, ...]:
    """The tokens that an answer follows; cut again where the engine does not tell them."""
    told = completion.prompt_token_ids
    return told or lab.engine.tokenize(completion.rendered_prompt, special=True)


def control(lab: TargetLab) -> Completion:
    """The greedy answer that an engine in order always gives."""
    return lab.engine.generate(plain(first_prompt(lab)))


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two answers part, and by how much the engine preferred either token."""

    place: int
    margin: float
    noise: float

    @property
    def real(self) -> bool:
        """Whether they part by more than the engine's own noise."""
        return self.margin > self.noise


def noise_of(engine: Engine) -> float:
    """How far apart logits may be that another order of sums exchanges."""
    return BATCH_NOISE.get(engine.describe().get("dtype", ""), BATCH_NOISE["bfloat16"])


def parting(
    engine: Engine, prompt_ids: Sequence[int], a: Sequence[int], b: Sequence[int]
) -> Parting | None:
    """Where two continuations of a prompt part; None where one begins the other.

    Their tokens' logits are compared there, teacher-forced.
    """
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if place is None:
        return None
    row = engine.logits([*prompt_ids, *a[:place]])[-1]
    margin = abs(float(row[a[place]]) - float(row[b[place]]))
    return Parting(place, margin, noise_of(engine))
