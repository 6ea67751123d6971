"""Gates: a derived file's chat template renders as the ground truth's does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.text.chats import (
    JINJA,
    SPECIAL,
    Turn,
    asked,
    difference,
    source_chat,
    stored_chat,
    turns,
    with_system,
)
from pytest_aprqa.checks.gates.text.sources import around, expected_ids, is_foreign, source_text
from pytest_aprqa.domain.completion import Completion, GenerationRequest, Message
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NONE = "the model has no chat template"
_APPLIES = "the model has a chat template"

rendering: Family[TargetLab] = Family(
    domain="chat template parity",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.TEMPLATE,
    formats=frozenset({Format.APR, Format.GGUF}),
    source="the ground truth's template in the environment that transformers gives it",
)
engine: Family[TargetLab] = Family(
    domain="chat of the engine",
    place=Place.TARGET,
    cost=Cost.ANSWERS,
    rung=Rung.TEMPLATE,
    source="the ground truth's template and tokenizer",
)


def _compare(lab: TargetLab, messages: Sequence[Turn], *, prompt: bool = True) -> Finding:
    source, stored = lab.model.once(source_chat), lab.once(stored_chat)
    if source is None:
        return without_meaning(_NONE)
    if stored is None:
        return refuted("the file has no chat template", culprit=lab.file.name)
    expected, found = (chat.render(messages, prompt=prompt) for chat in (source, stored))
    if expected.text is None and found.text is None:
        return without_meaning(f"both templates refuse these messages: {expected.refusal}")
    if expected.text is None or found.text is None:
        which = "only the ground truth's" if found.text is not None else "only the file's"
        told = f"{which} template refuses the messages: {expected.refusal or found.refusal}"
        return refuted(told, culprit=lab.file.name)
    if expected.text != found.text:
        return refuted(difference(expected.text, found.text), culprit=lab.file.name)
    return held(f"{len(found.text)} characters, each the ground truth's")


def _add(
    gate_id: str, what: str, messages: Callable[[], list[Turn]], *, prompt: bool = True
) -> None:
    @rendering.gate(
        gate_id,
        f"{what} by the file's template become the ground truth's text, character for character",
        severity=Severity.P0 if "TURNS" in gate_id else Severity.P1,
        applies=_APPLIES,
    )
    def _check(lab: TargetLab) -> Finding:
        return _compare(lab, messages(), prompt=prompt)


_add("F-TEMPLATE-TURNS1-001", "One question", lambda: turns(1))
_add("F-TEMPLATE-TURNS2-001", "Two questions", lambda: turns(2))
_add("F-TEMPLATE-TURNS3-001", "Three questions", lambda: turns(3))
_add("F-TEMPLATE-TURNS4-001", "Four questions", lambda: turns(4))
_add("F-TEMPLATE-SYSTEM-002", "A system text and a question", with_system)
_add("F-TEMPLATE-EMPTY-001", "An empty question", lambda: asked(""))
_add("F-TEMPLATE-VERBATIM-002", "Special characters", lambda: asked(f"{SPECIAL}\n{JINJA}"))
_add(
    "F-TEMPLATE-CLOSED-001",
    "Messages without the beginning of an answer",
    lambda: [*turns(1), {"role": "assistant", "content": "Whole."}],
    prompt=False,
)


def _messages(messages: Sequence[Turn]) -> tuple[Message, ...]:
    return tuple(Message(turn["role"], turn["content"]) for turn in messages)  # type: ignore[arg-type]


def engine_chat(lab: TargetLab) -> Completion:
    """What the target's engine makes of a conversation of two questions: one token is asked."""
    messages = _messages([*turns(2)[:-1], *asked(f"{SPECIAL} {JINJA}")])
    return lab.engine.generate(GenerationRequest(messages=messages, max_tokens=1))


@engine.gate(
    "F-TEMPLATE-ENGINE-001",
    "The engine renders a conversation to the text of the ground truth's template",
    severity=Severity.P0,
    applies=_APPLIES,
)
def _engine(lab: TargetLab) -> Finding:
    source = lab.model.once(source_chat)
    if source is None:
        return without_meaning(_NONE)
    expected = source.render([*turns(2)[:-1], *asked(f"{SPECIAL} {JINJA}")])
    if expected.text is None:
        return without_meaning(f"the template refuses two questions: {expected.refusal}")
    found = lab.once(engine_chat).rendered_prompt
    if found != expected.text:
        return refuted(difference(expected.text, found), culprit=lab.file.name)
    return held(f"{len(found)} characters, each the ground truth's")


@engine.gate(
    "F-TEMPLATE-IDS-001",
    "A rendered conversation becomes its own tokens, and nothing is put before or after them",
    severity=Severity.P0,
    rung=Rung.TOKENS,
    applies=_APPLIES,
)
def _ids(lab: TargetLab) -> Finding:
    if lab.model.once(source_chat) is None:
        return without_meaning(_NONE)
    source = lab.model.once(source_text)
    if source is None:
        return without_meaning("the ground truth has no tokenizer.json to be held against")
    answer = lab.once(engine_chat)
    if not answer.prompt_token_ids:
        return undecided("the engine does not tell the tokens of its prompt")
    if is_foreign(lab.engine) and (source.swallows or source.blank_comes_first):
        return without_meaning("this engine has its own way with blanks beside special tokens")
    expected = expected_ids(lab, answer.rendered_prompt)
    if answer.prompt_token_ids != expected:
        return refuted(around(expected, answer.prompt_token_ids), culprit=lab.file.name)
    return held(f"{len(expected)} tokens, each the ground truth's")


FAMILIES = (rendering, engine)
ALIASES = {"F-CHAT-001": "F-TEMPLATE-ENGINE-001"}
