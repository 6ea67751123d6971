"""Claims that what is served is the target: the server's answers are those of its engine here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.served.asking import ask
from pytest_aprqa.checks.serve.client import CHAT, COMPLETIONS, NO_TEMPLATE
from pytest_aprqa.checks.serve.finding import NotApplicable
from pytest_aprqa.domain.completion import Completion, GenerationRequest, Message
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.domain.tolerance import BATCH_NOISE
from pytest_aprqa.domain.verdict import Ruling

if TYPE_CHECKING:
    from pytest_aprqa.checks.serve.client import GateClient, Route
    from pytest_aprqa.engines.engine import Engine

SAME: Family[ServerLab] = Family(
    "serve/same model",
    Place.SERVER,
    Cost.SERVER,
    Rung.SERVER,
    source="first divergence: tokens may part only where the model itself is unsure",
)
FAMILIES = (SAME,)

COMPARED = 4
"""Prompts that are asked at both."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Where a text parts from an engine's own greedy answer."""

    place: int
    """The first token of the answer that the text does not have."""
    margin: float | None
    """How far the two most probable logits are apart there; None where none can be had."""


def parting(engine: Engine, answer: Completion, text: str) -> Parting | None:
    """Where a text parts from a greedy answer; None where they are the same."""
    if text == answer.text:
        return None
    common = next(
        (i for i, (a, b) in enumerate(zip(answer.text, text, strict=False)) if a != b),
        min(len(answer.text), len(text)),
    )
    ids = answer.token_ids
    pieces = _pieces(engine, answer) if answer.prompt_token_ids and ids else []
    if not "".join(pieces).startswith(answer.text[: common + 1]):
        return Parting(0, None)
    lengths = accumulate(len(piece) for piece in pieces)
    place = next((i for i, length in enumerate(lengths) if length > common), len(ids) - 1)
    if not pieces:
        return Parting(place, None)
    import numpy as np

    row = engine.logits((*answer.prompt_token_ids, *ids[:place]))[-1]
    second, first = np.partition(row.astype(np.float64), -2)[-2:]
    return Parting(place, float(first - second))


def _pieces(engine: Engine, answer: Completion) -> list[str]:
    """The texts of the answer's tokens, which an engine tells with their probabilities alone."""
    again = engine.generate(
        GenerationRequest(
            prompt_token_ids=answer.prompt_token_ids,
            max_tokens=max(len(answer.token_ids), 1),
            top_logprobs=1,
        )
    )
    return [choice.chosen.text for choice in again.logprobs]


@SAME.gate(
    "F-INV-SERVED-001", "a served completion is the target's own greedy one", severity=Severity.P0
)
def completions(lab: ServerLab) -> Finding:
    """The texts are equal, or part where the engine's two best tokens lie within its noise."""
    return _compare(lab, COMPLETIONS)


@SAME.gate(
    "F-INV-SERVED-002", "a served chat is the target's own, template and all", severity=Severity.P0
)
def chats(lab: ServerLab) -> Finding:
    """The same of chats: the server puts them into the prompt that the engine does."""
    return _compare(lab, CHAT)


def _compare(lab: ServerLab, route: Route) -> Finding:
    if lab.target is None:
        return without_meaning("the model behind the server is not loaded here")
    engine = lab.target.engine
    if route.chat and not engine.has_chat_template:
        return without_meaning(NO_TEMPLATE)
    texts: list[str] = []

    def served(client: GateClient) -> str:
        if route not in client.routes():
            raise NotApplicable(f"the server has no {route.path}")
        texts.extend(client.answer(route, p).text for p in client.prompts.prompts[:COMPARED])
        return "answered"

    finding = ask(served, lab)
    if finding.ruling is not Ruling.CORROBORATED:
        return finding
    floor = BATCH_NOISE.get(engine.describe().get("dtype", ""), BATCH_NOISE["float16"])
    prompts = lab.prompts.prompts[:COMPARED]
    equal, near, told = 0, 0, 0
    for prompt, text in zip(prompts, texts, strict=True):
        answer = engine.generate(_request(lab, prompt, chat=route.chat))
        told += bool(answer.text.strip())
        found = parting(engine, answer, text)
        if found is None:
            equal += 1
        elif found.margin is not None and found.margin <= floor:
            near += 1
        else:
            one, other = one_line(text, limit=100), one_line(answer.text, limit=100)
            return refuted(
                f"{route.path} answers {prompt!r:.60} with {one!r}, the engine with {other!r}; "
                f"{_told(found)}; expected them to part only where these are at most {floor:g} "
                "apart",
                measured={"equal": equal, "margin": found.margin or 0.0},
            )
    measured = {"equal": float(equal), "near_ties": float(near)}
    if not told:
        return undecided("every answer is empty: nothing could be compared", measured=measured)
    return held(
        f"{equal} of {len(texts)} answers of {route.path} are the engine's own; {near} part at a "
        "near tie",
        measured=measured,
    )


def _told(found: Parting) -> str:
    if found.margin is None:
        return "how sure the engine is where they part is not known"
    return f"at token {found.place + 1} the two best logits are {found.margin:.3g} apart"


def _request(lab: ServerLab, prompt: str, *, chat: bool) -> GenerationRequest:
    return GenerationRequest(
        prompt=None if chat else prompt,
        messages=(Message("user", prompt),) if chat else (),
        max_tokens=lab.prompts.max_tokens,
        timeout_s=lab.prompts.timeout_s,
    )
