"""Gates: a derived file's engine cuts every kind of text as the ground truth's tokenizer does."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.text.sources import (
    SourceText,
    around,
    expected_ids,
    is_foreign,
    shown,
    source_text,
)
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_GROUPS
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity
from pytest_aprqa.domain.tolerance import FOREIGN_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DERIVED = frozenset({Format.APR, Format.GGUF})
_NO_TOKENIZER = "the ground truth has no tokenizer.json to be held against"
_ADDED_ASKED = 64
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]")
_CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uff61-\uffdc\U00020000-\U0003ffff]")
_LATIN = re.compile("[\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]")
_SENTENCES = (
    "El niño comió piñas en el jardín.",
    "Größe, Fußgänger und Übermut",
    "Où est la forêt, là-bas ?",
    "Dvořák, Łukasz, Şule, Ōsaka",
)
_CJK_SENTENCES = (
    "今天天气怎么样",
    "日本語の文章です。",
    "한국어 문장입니다.",
    "價格是３００元。",
)
_EMOJI_TEXTS = ("👩‍👩‍👧‍👧", "🤷🏽‍♀️", "❤️‍🔥", "hello 👋 world 🌍!")

tokens: Family[TargetLab] = Family(
    domain="tokenizer parity",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.TOKENS,
    formats=DERIVED,
    source="tokenizers' ids of the ground truth's tokenizer.json; domain/tolerance.FOREIGN_TOKENS",
)


@dataclass(frozen=True, slots=True)
class ClassResult:
    """How one kind of text fared."""

    judged: int
    excused: int
    different: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """Text, the ids that were expected, and those found."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How each kind of text fared; None without a tokenizer to compare with."""

    results: Mapping[str, ClassResult] | None


def texts_by_class(source: SourceText) -> dict[str, tuple[str, ...]]:
    """What the tokenizers are asked, by kind; the adversarial texts are each in one."""
    kinds: dict[str, list[str]] = {
        "accents": list(_SENTENCES),
        "cjk": list(_CJK_SENTENCES),
        "emoji": list(_EMOJI_TEXTS),
        "scripts": [],
        "symbols": [],
    }
    kinds["accents"] += [unicodedata.normalize("NFD", text) for text in _SENTENCES]
    for text in (*ADVERSARIAL_GROUPS["scripts"], *ADVERSARIAL_GROUPS["symbols"]):
        kinds[_kind(text)].append(text)
    # Runs of blanks are added tokens of some models, spelt with a letter that stands for a blank.
    added = [t for t in source.added if t.get("special") or "\u2581" not in str(t.get("content"))]
    names = [str(token.get("content")) for token in added[:_ADDED_ASKED]]
    specials = [text for name in names for text in (name, f"a{name}b", name[:-1])]
    return {
        **{kind: tuple(texts) for kind, texts in kinds.items()},
        "words": ADVERSARIAL_GROUPS["words"],
        "digits": ADVERSARIAL_GROUPS["numbers"],
        "whitespace": ADVERSARIAL_GROUPS["whitespace"],
        "code": ADVERSARIAL_GROUPS["code"],
        "control": (*ADVERSARIAL_GROUPS["specials"], *specials),
        "long": (*ADVERSARIAL_GROUPS["long"], "internationalization" * 200),
        "bytes": tuple(chr(code) for code in (*range(1, 0x100), *range(0x100, 0x800, 64))),
    }


def _kind(text: str) -> str:
    for kind, found in (("emoji", _EMOJI), ("cjk", _CJK), ("accents", _LATIN)):
        if found.search(text) and not (kind == "accents" and _other_letters(text)):
            return kind
    return "scripts" if _other_letters(text) else "symbols"


def _other_letters(text: str) -> bool:
    """Whether there are letters that are neither Latin nor marks on Latin."""
    return any(
        character.isalpha() and "LATIN" not in unicodedata.name(character, "") for character in text
    )


def parity(lab: TargetLab) -> Parity:
    """Every text's ids by the target's engine and by the ground truth's tokenizer.

    Another library than transformers is asked for what it was made to do: it has no normalizer, so
    it is given text in normal form C where the ground truth makes that itself; what it cuts by
    rules of its own is not judged (docs/conversion.md).
    """
    source = lab.model.once(source_text)
    if source is None:
        return Parity(None)
    results = {}
    for kind, texts in texts_by_class(source).items():
        excused, different = 0, []
        for text in texts:
            asked = _askable(lab, source, text)
            if is_foreign(lab.engine) and _is_cut_otherwise(source, kind, asked):
                excused += 1
                continue
            expected, found = expected_ids(lab, asked), lab.engine.tokenize(asked, special=False)
            if expected != tuple(found):
                different.append((asked, expected, tuple(found)))
        results[kind] = ClassResult(len(texts) - excused, excused, tuple(different))
    return Parity(MappingProxyType(results))


def _askable(lab: TargetLab, source: SourceText, text: str) -> str:
    composed = is_foreign(lab.engine) and source.imposes_nfc
    return unicodedata.normalize("NFC", text) if composed else text


def _is_cut_otherwise(source: SourceText, kind: str, text: str) -> bool:
    """Whether llama.cpp has rules of its own for the text.

    It cuts before combining marks, lets no token swallow blanks, and puts a blank before a text
    that begins with one and after each special token.
    """
    beside = kind == "control" and (source.swallows or source.blank_comes_first)
    blank = source.blank_comes_first and text.startswith((" ", "\u2581"))
    return beside or blank or _has_marks(text)


def _has_marks(text: str) -> bool:
    return any(unicodedata.category(character).startswith("M") for character in text)


def _judge(lab: TargetLab, kind: str) -> Finding:
    found = lab.once(parity).results
    if found is None:
        return without_meaning(_NO_TOKENIZER)
    result = found[kind]
    if not result.judged:
        return without_meaning(f"no {kind} text can be judged by {lab.engine.name}")
    # What is left after the excused: runs of added tokens, digits of other scripts (2 of 23 texts).
    allowed = FOREIGN_TOKENS if is_foreign(lab.engine) else 0.0
    share = len(result.different) / result.judged
    measured = {"texts": float(result.judged), "texts_different": float(len(result.different))}
    if share > allowed:
        text, expected, ids = result.different[0]
        told = f"{len(result.different)} of {result.judged} {kind} texts have other ids, the first "
        told += f"{shown(text)} {around(expected, ids)}"
        return refuted(told, culprit=lab.file.name, measured=measured)
    equal = result.judged - len(result.different)
    excused = f", {result.excused} not judged" if result.excused else ""
    return held(
        f"{equal} of {result.judged} {kind} texts have the same ids{excused}", measured=measured
    )


_CLASSES = (
    ("WORD", "words", "Words, contractions and punctuation"),
    ("ACCENT", "accents", "Accented letters, composed and decomposed,"),
    ("CJK", "cjk", "Chinese, Japanese and Korean text"),
    ("SCRIPT", "scripts", "Other scripts, alone and mixed,"),
    ("EMOJI", "emoji", "Emoji, with their joiners and modifiers,"),
    ("DIGIT", "digits", "Numbers of every length and script"),
    ("SPACE", "whitespace", "Runs of blanks, tabs and line ends"),
    ("SYMBOL", "symbols", "Symbols, invisible and private characters"),
    ("CODE", "code", "Source text"),
    ("CONTROL", "control", "Names of control tokens inside a text, whole and broken,"),
    ("LONG", "long", "Very long words and runs"),
    ("BYTE", "bytes", "Characters that need each byte of UTF-8's first two lengths"),
)


def _add(word: str, kind: str, what: str) -> None:
    severity = Severity.P0 if kind in ("words", "control") else Severity.P1
    check: Callable[[TargetLab], Finding] = lambda lab: _judge(lab, kind)  # noqa: E731
    tokens.gate(
        f"F-TOK-{word}-001",
        f"{what} become the same token ids as by the ground truth's tokenizer",
        severity=severity,
        applies="the ground truth has a tokenizer.json",
    )(check)


for _word, _class, _what in _CLASSES:
    _add(_word, _class, _what)


def _prompts(
    lab: TargetLab, source: SourceText
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    for text in lab.prompts:
        asked = _askable(lab, source, text)
        expected = expected_ids(lab, asked, special=True)
        yield asked, expected, tuple(lab.engine.tokenize(asked, special=True))


@tokens.gate(
    "F-PAR-002",
    "The playbook's prompts become the same token ids, start and end tokens included",
    severity=Severity.P0,
    applies="the ground truth has a tokenizer.json",
)
def _playbook_prompts(lab: TargetLab) -> Finding:
    source = lab.model.once(source_text)
    if source is None:
        return without_meaning(_NO_TOKENIZER)
    count = 0
    for text, expected, found in _prompts(lab, source):
        count += 1
        if expected != found:
            return refuted(
                f"prompt {shown(text)}: {around(expected, found)}", culprit=lab.file.name
            )
    return held(f"{count} prompts have the same ids")


@tokens.gate(
    "F-TOK-AROUND-001",
    "What the engine puts around a text is what the ground truth's tokenizer puts there",
    severity=Severity.P0,
    applies="the ground truth has a tokenizer.json",
)
def _around(lab: TargetLab) -> Finding:
    source = lab.model.once(source_text)
    if source is None:
        return without_meaning(_NO_TOKENIZER)
    for text in ("a", "Hello"):
        added = len(source.ids(text, special=True)) - len(source.ids(text))
        plain, full = (len(lab.engine.tokenize(text, special=s)) for s in (False, True))
        if full - plain != added:
            ids = tuple(lab.engine.tokenize(text, special=True))
            return refuted(
                f"{full - plain} tokens are put around {text!r}, expected {added}; "
                + around(source.ids(text, special=True), ids),
                culprit=lab.file.name,
            )
    return held(f"{added} tokens are put around a text, as by the ground truth's tokenizer")


FAMILIES = (tokens,)
ALIASES = {"F-CONV-INF-EQ": "F-PAR-002"}
