"""Which form a question's words ask of the answer: sentences, items, words, yes or no, JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_aprqa.domain.oracle_spec import ResponseSpec
from pytest_aprqa.oracles.text import listed

_NUMBERS = {
    word: value
    for value, word in enumerate(
        listed("zero one two three four five six seven eight nine ten eleven twelve")
    )
} | {"a": 1, "single": 1}
_N = r"(\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_SENTENCES = re.compile(rf"\b(?:in|using|with|write|give(?: me)?)\s+(?:exactly\s+|just\s+|only\s+)?"
                        rf"(?:{_N}|a|a single)\s+(?:short\s+|brief\s+"
                        rf"|simple\s+)?sentences?\b", re.I)  # fmt: skip
_ONE_WORD = re.compile(r"\b(?:in|with|using|only|just|exactly)\s+(?:only\s+)?(?:one|a single"
r"|1)\s+word\b", re.I)  # fmt: skip
_MAX_WORDS = re.compile(
    rf"\b(?:(?:at most|no more than|fewer than|less than|under|up to|within|maximum(?: of)?|max)\s+"
    rf"{_N}\s+words|in\s+{_N}\s+words\s+or\s+(?:less|fewer))\b",
    re.I,
)
_ITEMS = re.compile(
    rf"\b(?:list|name|give(?:\s+me)?|tell\s+me|provide|suggest|mention|enumerate|what\s+are)\s+"
    rf"(?:the\s+|any\s+|exactly\s+|just\s+|only\s+|me\s+|out\s+)*{_N}\s+(?!words?\b|sentences?\b"
    r"|paragraphs?\b|lines?\b|times\b|[-+*/x]|plus\b|minus\b|of\b"
    r"|digit)(?:[a-z-]+\s+){0,3}?[a-z-]+",
    re.I,
)
_YES_NO = re.compile(r"\b(?:yes\s*(?:or|/)\s*no|yes-or-no)\b", re.I)
_JSON = re.compile(
    r"\b(?:in|as|return|output|with|valid|using|produce|write|generate"
    r"|only)\s+(?:only\s+)?(?:a\s+|an\s+)?"
    r"(?:valid\s+|raw\s+|single\s+)?json\b(?!\s+(?:schema|web|parser|library))"
    r"|\bjson\s+(?:object|array|format|only)\b",
    re.I,
)
_READ = 4_000


@dataclass(frozen=True, slots=True)
class Form:
    """The form asked for; None and False where nothing is said."""

    sentences: int | None = None
    items: int | None = None
    max_words: int | None = None
    one_word: bool = False
    yes_no: bool = False
    json: bool = False

    @property
    def asked(self) -> bool:
        """True when any form is asked for."""
        return self != Form()


def wanted_form(spec: ResponseSpec, question: str) -> Form:
    """Return the settings' form, completed by what the question says."""
    head = question[:_READ]
    json_wanted = spec.json_schema is not None or _JSON.search(head) is not None
    sentences = _SENTENCES.search(head)
    limits = _MAX_WORDS.search(head)
    exclusive = limits is not None and re.match(r"fewer|less|under", limits[0], re.I) is not None
    most = _number(limits[1] or limits[2]) if limits else None
    items = None if json_wanted else _ITEMS.search(head)
    return Form(
        sentences=spec.sentences or (_number(sentences[1] or "one") if sentences else None),
        items=spec.items or (_number(items[1]) if items else None),
        max_words=spec.max_words or (most - exclusive if most else None),
        one_word=_ONE_WORD.search(head) is not None,
        yes_no=_YES_NO.search(head) is not None,
        json=json_wanted,
    )


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word.lower()]
