"""Claims about the texts of a server's answers, and about what of a chat reaches the model."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ServerLab
from pytest_aprqa.checks.gates.served.asking import FEW_TOKENS, asked, chat_route, few
from pytest_aprqa.checks.serve.client import CHAT, require_json, said_in
from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_aprqa.checks.serve.client import GateClient, Said

CONTENT: Family[ServerLab] = Family(
    "serve/content", Place.SERVER, Cost.SERVER, Rung.SERVER, category=Category.QUAL
)
DIALOG: Family[ServerLab] = Family("serve/dialog", Place.SERVER, Cost.SERVER, Rung.SERVER)
FAMILIES = (CONTENT, DIALOG)

LEAST_ENTROPY = 1.0
"""Bits a character: one character repeated has 0, English text about 4."""
JUDGED_FROM = 12
"""Characters from which an answer's entropy says something."""
_TOKEN_ID = re.compile(r"(?:<)?\btoken[_ ]?\d{2,}\b>?|\[\d+(?:, ?\d+){7,}\]$")
FEWEST_IDS = 3
"""Raw ids in one answer, from which it is no program that has such a name in it."""
_BPE = re.compile(r"Ġ(?=\w)|Ċ|(?:^|(?<=\w))▁(?=\w)|<0x[0-9A-F]{2}>|â\x96\x81")
FEWEST_GLYPHS = 2
"""Maltese has the letter Ġ, of which one may start a word; a byte-level vocabulary has many."""
_CONTROL = re.compile(
    r"<\|[A-Za-z0-9_]{2,30}\|>|<\uff5c[^\uff5c]{1,40}\uff5c>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|"
    r"<(?:eos|bos|pad)>"
)
_TEMPLATE = re.compile(r"template|jinja|roles? ", re.IGNORECASE)
"""What tells of a template that raises, which some servers call an error of their own."""
SYSTEM = "Answer as a pirate would, and call whoever asks you captain. " * 6
"""Longer than the system texts that templates bring of their own."""
EARLIER = "My name is Ada and I live by the sea. "
EMOJI = "Count the stars: \u00e9 \u4f60\u597d \U0001f389 \u2b50\u2b50"


@dataclass(frozen=True, slots=True)
class _Spoken:
    """An answer and what it answers."""

    path: str
    prompt: str
    said: Said

    def __str__(self) -> str:
        return f"{self.path} to {self.prompt!r:.60}: {one_line(self.said.text, limit=120)!r}"


def _answers(client: GateClient) -> list[_Spoken]:
    """All greedy answers of the routes that there are; asked once for all gates of a server."""
    return [
        _Spoken(route.path, prompt, client.answer(route, prompt))
        for route in client.routes()
        for prompt in client.prompts.prompts
    ]


@CONTENT.gate("F-HTTP-006", "a chat completion has a text at choices[0].message.content")
@asked
def has_content(client: GateClient) -> str:
    """The place where every client looks holds a text, which null is not."""
    route = chat_route(client)
    reply = few(client, route)
    if reply.status != 200:
        raise Refuted(f"{route.path} answers {reply.status}; expected 200")
    try:
        content = json.loads(reply.text)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise Refuted(f"choices[0].message.content is not there: {error!r}") from error
    if not isinstance(content, str):
        raise Refuted(f"choices[0].message.content is {content!r}; expected a text")
    if not content:
        raise NotApplicable("choices[0].message.content is empty")
    return f"choices[0].message.content is {content!r:.60}"


@CONTENT.gate("F-HTTP-008", "at most half of the answers are empty", severity=Severity.P0)
@asked
def not_empty(client: GateClient) -> str:
    """A model may have nothing to say to a prompt, but not to most."""
    answers = _answers(client)
    empty = [answer for answer in answers if not answer.said.text.strip()]
    if 2 * len(empty) > len(answers):
        raise Refuted(f"{len(empty)} of {len(answers)} answers are empty; expected at most half")
    return f"{len(answers) - len(empty)} of {len(answers)} answers hold text"


@CONTENT.gate("F-HTTP-009", "no answer is made of token ids")
@asked
def no_token_ids(client: GateClient) -> str:
    """Ids such as token123 are what a server tells that does not decode."""
    answers = _answers(client)
    for answer in answers:
        found = _TOKEN_ID.findall(answer.said.text)
        if len(found) >= FEWEST_IDS or any(text.startswith("[") for text in found):
            raise Refuted(f"{answer} holds {', '.join(found[:3])}; expected text")
    return f"none of {len(_required(answers))} answers holds token ids"


@CONTENT.gate("F-HTTP-009b", "no answer holds the glyphs of a tokenizer's vocabulary")
@asked
def no_glyphs(client: GateClient) -> str:
    """Ġ, Ċ, ▁ and <0x0A> stand for spaces and bytes inside of vocabularies alone."""
    answers = _answers(client)
    for answer in answers:
        found = _BPE.findall(answer.said.text)
        if len(found) >= FEWEST_GLYPHS:
            raise Refuted(f"{answer} holds {' '.join(found[:3])}; expected spaces and bytes")
    return f"none of {len(_required(answers))} answers holds vocabulary glyphs"


@CONTENT.gate("F-API-002", "no chat holds the control tokens of its template")
@asked
def no_control_tokens(client: GateClient) -> str:
    """What ends a turn or begins one is not part of the answer."""
    route = chat_route(client)
    answers = [_Spoken(route.path, p, client.answer(route, p)) for p in client.prompts.prompts]
    for answer in answers:
        if found := _CONTROL.search(answer.said.text):
            raise Refuted(f"{answer} holds {found.group()}; expected no control token")
    return f"none of {len(_required(answers))} chats holds a control token"


@CONTENT.gate("F-HTTP-020", "answers are coherent text: no U+FFFD, no character over and over")
@asked
def coherent(client: GateClient) -> str:
    """A limit may cut the last character in two; nothing else brings U+FFFD about."""
    answers = _answers(client)
    told = 0
    for answer in answers:
        text = answer.said.text
        if answer.said.finish_reason == "length":
            text = text.rstrip("\ufffd")
        if "\ufffd" in text:
            raise Refuted(f"{answer} holds U+FFFD; expected whole characters")
        if len(text.strip()) >= JUDGED_FROM:
            told += 1
            if (bits := entropy(text)) < LEAST_ENTROPY:
                raise Refuted(
                    f"{answer} has {bits:.2f} bits a character; expected at least {LEAST_ENTROPY:g}"
                )
    if not told:
        raise NotApplicable(f"no answer has {JUDGED_FROM} characters")
    return f"{told} answers have at least {LEAST_ENTROPY:g} bits a character, none has U+FFFD"


def entropy(text: str) -> float:
    """Shannon's entropy of the text's characters, in bits; 0 of no text."""
    return -math.fsum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _required(answers: list[_Spoken]) -> list[_Spoken]:
    """The answers, of which one at least holds text.

    Raises:
        NotApplicable: none does; nothing could be seen in them.
    """
    if not any(answer.said.text.strip() for answer in answers):
        raise NotApplicable("every answer is empty")
    return answers


def _prompt_tokens(client: GateClient, *messages: tuple[str, str]) -> int:
    """How many tokens the server counts in a chat.

    Raises:
        NotApplicable: the template takes no such chat.
    """
    turns = [{"role": role, "content": text} for role, text in messages]
    reply = few(client, chat_route(client), messages=turns)
    if reply.status in (400, 422) or (reply.status == 500 and _TEMPLATE.search(reply.text)):
        raise NotApplicable(f"the template refuses it: {one_line(reply.text, limit=120)}")
    return int(require_json(CHAT, reply)["usage"]["prompt_tokens"])


@DIALOG.gate("F-HTTP-012", "a system text reaches the prompt")
@asked
def system_text(client: GateClient) -> str:
    """The prompt has more tokens with a system text than without."""
    prompt = ("user", client.prompts.prompts[0])
    without = _prompt_tokens(client, prompt)
    with_it = _prompt_tokens(client, ("system", SYSTEM), prompt)
    client.measure(prompt_tokens=without, prompt_tokens_with_system=with_it)
    if with_it <= without:
        raise Refuted(
            f"with a system text of {len(SYSTEM)} characters the prompt has {with_it} tokens, "
            f"without {without}; expected more"
        )
    return f"a system text makes {without} tokens of prompt {with_it}"


@DIALOG.gate("F-HTTP-013", "earlier turns reach the prompt")
@asked
def earlier_turns(client: GateClient) -> str:
    """The prompt has more tokens with an earlier question and its answer, for each of both."""
    last = ("user", client.prompts.prompts[0])
    alone = _prompt_tokens(client, last)
    short = _prompt_tokens(client, ("user", "Hi"), ("assistant", "Hi"), last)
    asked_more = _prompt_tokens(client, ("user", EARLIER * 3), ("assistant", "Hi"), last)
    said_more = _prompt_tokens(client, ("user", "Hi"), ("assistant", EARLIER * 3), last)
    client.measure(prompt_tokens=alone, prompt_tokens_of_three_turns=short)
    for name, found, less in (
        ("an earlier question and answer", short, alone),
        ("a longer earlier question", asked_more, short),
        ("a longer earlier answer", said_more, short),
    ):
        if found <= less:
            raise Refuted(
                f"with {name} the prompt has {found} tokens, without {less}; expected more"
            )
    return f"two earlier turns make {alone} tokens of prompt {short}; longer ones {asked_more}"


@DIALOG.gate("F-HTTP-016", "a greedy request has one answer")
@asked
def deterministic(client: GateClient) -> str:
    """Asked three times, each of some prompts gets the same text."""
    route, spoken = client.routes()[0], 0
    for prompt in client.prompts.prompts[:3]:
        texts = list(_texts(client, prompt, count=3))
        spoken += any(text.strip() for text in texts)
        if len(set(texts)) > 1:
            told = " and ".join(repr(one_line(text, limit=80)) for text in dict.fromkeys(texts))
            raise Refuted(f"{route.path} answers {prompt!r:.60} with {told}; expected one text")
    if not spoken:
        raise NotApplicable("every answer is empty")
    return f"{spoken} prompts asked 3 times have one answer each"


def _texts(client: GateClient, prompt: str, *, count: int) -> Iterator[str]:
    route = client.routes()[0]
    for _ in range(count):
        yield client.ask(route, prompt, max_tokens=2 * FEW_TOKENS).text


@DIALOG.gate("F-HTTP-UTF8-001", "a character is the same as itself and as JSON's escape")
@asked
def escapes(client: GateClient) -> str:
    """A prompt of several scripts gets one answer and one count, in UTF-8 and as ASCII."""
    route = client.routes()[0]
    body = client.body(route, EMOJI, max_tokens=2 * FEW_TOKENS)
    both = []
    for ascii_only in (True, False):
        content = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8")
        said = said_in(route, client.send("POST", route.path, content=content))
        both.append((said.text, said.usage["prompt_tokens"]))
    if both[0] != both[1]:
        raise Refuted(
            f"{EMOJI!r} as JSON's escapes gets {both[0]!r:.100}, as UTF-8 {both[1]!r:.100}; "
            "expected the same"
        )
    return f"a prompt of several scripts has {both[0][1]} tokens either way"
