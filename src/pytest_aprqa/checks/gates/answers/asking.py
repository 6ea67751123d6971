"""Short questions to a target's engine, and what was answered once and is used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import NothingToJudge
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


def asked(lab: TargetLab) -> tuple[tuple[str, Completion], ...]:
    """OPEN and the first few of the playbook's prompts, each with its greedy answer."""
    prompts = [OPEN, *(p for p in lab.prompts if p.strip())][:4]
    return tuple((p, lab.engine.generate(plain(p, max_tokens=MORE))) for p in prompts)


def spoken(lab: TargetLab) -> tuple[tuple[str, Completion], ...]:
    """Those whose answer holds text: two empty answers are alike, and show nothing.

    Raises:
        NothingToJudge: no answer does.
    """
    found = tuple((prompt, answer) for prompt, answer in lab.once(asked) if answer.text.strip())
    if not found:
        raise NothingToJudge(f"all {len(lab.once(asked))} greedy answers are blank")
    return found


def first_prompt(lab: TargetLab) -> str:
    """What every gate here asks that needs no other: OPEN, if the model goes on from it.

    Raises:
        NothingToJudge: the model says nothing to any prompt.
    """
    return lab.once(spoken)[0][0]


def greedy(lab: TargetLab) -> tuple[Completion, ...]:
    """The greedy answers of `spoken`, that to `first_prompt` first.

    Raises:
        NothingToJudge: there are none.
    """
    return tuple(answer for _, answer in lab.once(spoken))


def differ(one: Completion, two: Completion) -> bool:
    """Whether two answers are not the same tokens and text."""
    return (one.token_ids, one.text) != (two.token_ids, two.text)


def prompt_ids(lab: TargetLab, completion: Completion) -> tuple[int, ...]:
    """The tokens that an answer follows; cut again where the engine does not tell them."""
    told = completion.prompt_token_ids
    return told or lab.engine.tokenize(completion.rendered_prompt, special=True)


def control(lab: TargetLab) -> Completion:
    """The greedy answer that an engine in order always gives.

    Raises:
        NothingToJudge: it is blank.
    """
    found = lab.engine.generate(plain(first_prompt(lab)))
    if not found.text.strip():
        raise NothingToJudge(f"the answer of {FEW} tokens to {first_prompt(lab)!r:.40} is blank")
    return found


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
