"""Proofs of the gates about token ids: engines that cut one kind of text otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import PROMPTS, Proof, ProofBench, Tampered, shared
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_GROUPS
from pytest_aprqa.domain.model import Format
from pytest_aprqa.engines.engine import Engine


def healthy_target(format_: Format) -> Callable[[ProofBench], Lab]:
    """The embedded model's file in a format, as its engine has it."""
    return shared(f"text-{format_.value}", lambda bench: bench.target_lab(format_))


def tampered(bench: ProofBench, change: Callable[[str], str | None]) -> Lab:
    """A GGUF target whose engine cuts another text than it was given."""

    def tokenize(engine: Engine, text: str, *, special: bool) -> tuple[int, ...]:
        other = change(text)
        return engine.tokenize(text if other is None else other, special=special)

    file = bench.converted(Format.GGUF)
    engine = cast("Any", Tampered(bench.engine(file, Format.GGUF), tokenize=tokenize))
    return bench.target_lab(Format.GGUF, file=file, engine=engine)


def _of_group(group: str, change: Callable[[str], str], text: str) -> str | None:
    return change(text) if text in ADVERSARIAL_GROUPS[group] else None


def _matching(pattern: str, change: Callable[[str], str], text: str) -> str | None:
    return change(text) if re.search(pattern, text) else None


def _no_blanks(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _without_accents(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _two_tokens(bench: ProofBench) -> Lab:
    def tokenize(engine: Engine, text: str, *, special: bool) -> tuple[int, ...]:
        ids = engine.tokenize(text, special=special)
        return (1021, *ids) if special and text in ("a", "Hello") else ids

    file = bench.converted(Format.GGUF)
    engine = cast("Any", Tampered(bench.engine(file, Format.GGUF), tokenize=tokenize))
    return bench.target_lab(Format.GGUF, file=file, engine=engine)


def _proof(gate: str, defect: str, change: Callable[[str], str | None]) -> Proof:
    planted = partial(tampered, change=change)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy_target(Format.GGUF))


PROOFS = (
    _proof(
        "F-TOK-WORD-001",
        "words are lowered before they are cut",
        partial(_of_group, "words", str.lower),
    ),
    _proof(
        "F-TOK-ACCENT-001",
        "accents are dropped before the text is cut",
        partial(_matching, "Größe|niño|forêt|Dvoř|café|Łódź", _without_accents),
    ),
    _proof(
        "F-TOK-CJK-001",
        "ideographs are set apart by blanks",
        partial(_matching, "[天世章문世价價]", " ".join),
    ),
    _proof(
        "F-TOK-SCRIPT-001",
        "Cyrillic, Greek, Arabic and Indic text is replaced by question marks",
        partial(_matching, "^[\u0370-\u06ff\u10a0-\u13ff]", lambda text: "?" * len(text)),
    ),
    _proof(
        "F-TOK-EMOJI-001",
        "joiners and modifiers of emoji are dropped",
        partial(
            _matching,
            "[\U0001f300-\U0001faff]",
            lambda text: re.sub("[\U0001f300-\U0001faff]", "", text),
        ),
    ),
    _proof(
        "F-TOK-DIGIT-001",
        "the order of digits is turned round",
        partial(_of_group, "numbers", lambda text: text[::-1]),
    ),
    _proof(
        "F-TOK-SPACE-001", "runs of blanks become one", partial(_of_group, "whitespace", _no_blanks)
    ),
    _proof(
        "F-TOK-SYMBOL-001",
        "symbols beyond ASCII are dropped",
        partial(
            _matching, "[→┌▂§\ue000\ufeff]", lambda text: text.encode("ascii", "ignore").decode()
        ),
    ),
    _proof(
        "F-TOK-CODE-001", "the indentation of code is lost", partial(_of_group, "code", _no_blanks)
    ),
    _proof(
        "F-TOK-CONTROL-001",
        "names of control tokens are cut as plain text",
        partial(_matching, r"<\|", lambda text: text.replace("<|", "< |")),
    ),
    _proof(
        "F-TOK-LONG-001",
        "texts end after 32 characters",
        partial(_of_group, "long", lambda text: text[:32]),
    ),
    _proof(
        "F-TOK-BYTE-001",
        "characters that need two bytes are read as Latin-1",
        partial(_matching, "^[\x80-\xff]$", lambda text: text.encode().decode("latin-1")),
    ),
    _proof(
        "F-PAR-002",
        "the first prompt loses its question mark",
        partial(_matching, re.escape(PROMPTS[0]), lambda text: text.rstrip("?")),
    ),
    Proof(
        gate="F-TOK-AROUND-001",
        defect="a start token is put before a text that has none",
        planted=_two_tokens,
        healthy=healthy_target(Format.APR),
    ),
)
