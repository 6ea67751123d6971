"""Gates: the ground truth's chat template keeps what it is given, and can be told from text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, undecided, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.checks.gates.text.chats import (
    ASSISTANT,
    JINJA,
    SPECIAL,
    SYSTEM,
    USER,
    Chat,
    asked,
    source_chat,
    source_specials,
    turns,
    with_system,
)
from pytest_aprqa.checks.gates.text.own_tokenizer import end_ids, own_files
from pytest_aprqa.checks.gates.text.sources import source_text
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

_NONE = "the model has no chat template"
_FILE = "chat template"
_SPECIAL_FORM = re.compile(r"<\|[\w ]+\|>")

templates: Family[ModelLab] = Family(
    domain="chat template",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.TEMPLATE,
    source="transformers' documentation of chat templates",
)


def _gate(
    gate_id: str, assertion: str, severity: Severity = Severity.P1
) -> Callable[[Callable[[ModelLab, Chat], Finding]], None]:
    """A gate that has no meaning without a chat template."""

    def add(check: Callable[[ModelLab, Chat], Finding]) -> None:
        @templates.gate(
            gate_id, assertion, severity=severity, applies="the model has a chat template"
        )
        def _check(lab: ModelLab) -> Finding:
            chat = lab.once(source_chat)
            return without_meaning(_NONE) if chat is None else check(lab, chat)

    return add


def _bad(reason: str) -> Finding:
    return refuted(reason, culprit=_FILE)


def _in_order(text: str, contents: Sequence[str]) -> str | None:
    """The first content that is not found after the one before it."""
    place = 0
    for content in contents:
        at = text.find(content, place)
        if at < 0:
            return content
        place = at + len(content)
    return None


@_gate("F-TEMPLATE-PLAIN-001", "A question without a system text is rendered", Severity.P0)
def _plain(lab: ModelLab, chat: Chat) -> Finding:
    found = chat.render(turns(1))
    if found.text is None:
        return _bad(f"the template refuses one question: {found.refusal}")
    if not found.text.strip():
        return _bad("the template makes nothing of a question")
    return held(f"{len(found.text)} characters")


@_gate(
    "F-TEMPLATE-ORDER-001",
    "Four questions and three answers stand in the text, whole and in their order",
    Severity.P0,
)
def _order(lab: ModelLab, chat: Chat) -> Finding:
    found = chat.render(turns(4))
    if found.text is None:
        return _bad(f"the template refuses a conversation of four questions: {found.refusal}")
    contents = [turn["content"] for turn in turns(4)]
    lost = _in_order(found.text, contents)
    if lost is not None:
        return _bad(f"{lost!r} is not in its place; expected {len(contents)} texts in order")
    return held(f"{len(contents)} texts in order")


def _verbatim(chat: Chat, content: str, what: str) -> Finding:
    found = chat.render(asked(content))
    if found.text is None:
        return _bad(f"the template refuses {what}: {found.refusal}")
    if content not in found.text:
        return _bad(f"{what} {content!r} are not in the text {found.text[-200:]!r}")
    return held(f"{what} are kept as they are")


@_gate(
    "F-TEMPLATE-VERBATIM-001",
    "Line ends, quotes, markup and letters of all scripts are kept as they are",
)
def _special(lab: ModelLab, chat: Chat) -> Finding:
    return _verbatim(chat, SPECIAL, "special characters")


@_gate(
    "F-TEMPLATE-LITERAL-001",
    "What looks like a template in a user's text stays text",
    Severity.P0,
)
def _literal(lab: ModelLab, chat: Chat) -> Finding:
    return _verbatim(chat, JINJA, "braces")


@_gate("F-TEMPLATE-SYSTEM-001", "A system text stands in the text, before the question")
def _system(lab: ModelLab, chat: Chat) -> Finding:
    found = chat.render(with_system())
    if found.text is None:
        return without_meaning(f"the template takes no system text: {found.refusal}")
    lost = _in_order(found.text, (SYSTEM, USER[0]))
    if lost is None:
        return held("the system text stands before the question")
    if SYSTEM in found.text and _in_order(found.text, (USER[0], SYSTEM)) is None:
        return _bad("the system text stands after the question")
    return _bad(f"{lost!r} is not in the text {found.text[:200]!r}")


@_gate("F-TEMPLATE-ROLES-001", "A question and an answer are told apart by what is before them")
def _roles(lab: ModelLab, chat: Chat) -> Finding:
    found = chat.render(turns(2))
    if found.text is None:
        return _bad(f"the template refuses two questions: {found.refusal}")
    places = [found.text.find(turn["content"]) for turn in turns(2)]
    if min(places) < 0:
        return undecided("the texts are not all there, so what is before them cannot be told")
    to_user = found.text[places[1] + len(ASSISTANT[0]) : places[2]]
    to_assistant = found.text[places[0] + len(USER[0]) : places[1]]
    if not to_user.strip() or not to_assistant.strip() or to_user == to_assistant:
        return _bad(
            f"{to_assistant!r} is before an answer, {to_user!r} before a question; expected two "
            "different markers"
        )
    return held(f"{to_assistant!r} before an answer, {to_user!r} before a question")


@_gate(
    "F-TEMPLATE-PROMPT-001",
    "Asked to, the template ends with the beginning of an answer and changes nothing else",
    Severity.P0,
)
def _prompt(lab: ModelLab, chat: Chat) -> Finding:
    if "add_generation_prompt" not in chat.source:
        return without_meaning("the template has no beginning of an answer of its own")
    with_, without = chat.render(turns(1)).text, chat.render(turns(1), prompt=False).text
    if with_ is None or without is None:
        return undecided("the template refuses one question")
    if with_ == without and _ends_apart(chat):
        return held("the end of a question itself calls for an answer")
    if with_ == without or not with_.startswith(without):
        return _bad(f"it ends {with_[-60:]!r}, and without it {without[-60:]!r}")
    return held(f"an answer begins with {with_[len(without) :]!r}")


def _ends_apart(chat: Chat) -> bool:
    """Whether what closes a question is other than what closes an answer."""
    text = chat.render(turns(2), prompt=False).text
    if text is None or any(turn["content"] not in text for turn in turns(2)):
        return False
    after_question = text.rpartition(USER[1])[2].strip()
    after_answer = text.partition(ASSISTANT[0])[2].strip()
    return bool(after_question) and not after_answer.startswith(after_question)


@_gate("F-TEMPLATE-AGAIN-001", "The same conversation is rendered to the same text again")
def _again(lab: ModelLab, chat: Chat) -> Finding:
    texts = {chat.render(turns(2)).text for _ in range(3)}
    if None in texts:
        return undecided("the template refuses two questions")
    if len(texts) != 1:
        return _bad(f"one conversation has {len(texts)} texts: {sorted(map(repr, texts))[0]:.120}")
    return held("three times the same text")


@_gate(
    "F-TEMPLATE-BOS-001",
    "The start token stands once at the beginning, not twice",
    Severity.P0,
)
def _bos(lab: ModelLab, chat: Chat) -> Finding:
    bos = source_specials(lab).get("bos_token")
    source = lab.once(source_text)
    text = chat.render(turns(1)).text
    if not bos or source is None or text is None:
        return without_meaning("the model names no start token")
    # Engines put none before a rendered chat: what the template writes is all there is.
    count = 0
    while text.startswith(bos, count * len(bos)):
        count += 1
    if count > 1:
        return _bad(f"the text begins with {count} start tokens: {text[:80]!r}")
    return held(f"{count} start tokens at the beginning")


@_gate(
    "F-TEMPLATE-TOKENS-001",
    "The names of special tokens in the template are tokens of the model",
)
def _named(lab: ModelLab, chat: Chat) -> Finding:
    own = lab.once(own_files)
    names = sorted(set(_SPECIAL_FORM.findall(chat.source)))
    if own is None or not names:
        return without_meaning("the template names no special tokens")
    unknown = [name for name in names if name not in own.ids]
    if len(unknown) == len(names):
        return without_meaning(f"its markers, such as {names[0]!r}, are plain text to this model")
    if unknown:
        return _bad(f"{unknown[0]!r} is no token, though {len(names) - len(unknown)} others are")
    return held(f"{len(names)} special tokens are known")


@_gate(
    "F-TEMPLATE-STOP-001",
    "The token that closes an answer is one at which generation ends",
    Severity.P2,
)
def _stop(lab: ModelLab, chat: Chat) -> Finding:
    own, source = lab.once(own_files), lab.once(source_text)
    text = chat.render(turns(2)).text
    if own is None or source is None or text is None or ASSISTANT[0] not in text:
        return without_meaning("what closes an answer cannot be told")
    after = text.split(ASSISTANT[0], 1)[1]
    special = {int(token["id"]) for token in source.added}
    closing = next((i for i in source.ids(after[: after.find(USER[1])]) if i in special), None)
    ends = set().union(*end_ids(lab, own).values()) if end_ids(lab, own) else set()
    if closing is None or not ends:
        return without_meaning("no special token closes an answer")
    if closing not in ends:
        return _bad(f"token {closing} closes an answer, but generation ends at {sorted(ends)}")
    return held(f"token {closing} closes an answer and ends generation")


FAMILIES = (templates,)

ALIASES = {
    "F-CHAT-002": "F-TEMPLATE-SYSTEM-001",
    "F-CHAT-003": "F-TEMPLATE-ORDER-001",
}
