"""Gates: the ground truth's tokenizer is sound in itself."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import ModelLab
from pytest_aprqa.checks.gates.text.sources import (
    TOKENIZER,
    SourceText,
    around,
    shown,
    source_content,
    source_files,
    source_text,
)
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_aprqa.checks.integrity_finding import IntegrityFinding

own: Family[ModelLab] = Family(
    domain="tokenizer",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.TOKENS,
    source="the tokenizers library over the ground truth's tokenizer.json",
)
statements: Family[ModelLab] = Family(
    domain="tokenizer files",
    place=Place.MODEL,
    cost=Cost.HEADERS,
    rung=Rung.FILE,
    source="the files' own statements, held against each other",
)
_SPACE = "\u2581"
_BATCH = 8192
_APPLIES, _NONE = "there is a tokenizer.json", "there is no tokenizer.json"


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """What tokenizer.json and the files beside it say."""

    content: Mapping[str, Any]
    """tokenizer.json."""
    ids: Mapping[str, int]
    """Every token's id, added tokens included."""
    settings: Mapping[str, Any]
    """tokenizer_config.json."""
    generation: Mapping[str, Any]
    """generation_config.json."""


def own_files(lab: ModelLab) -> OwnFiles | None:
    """The tokenizer's files, read; None without a tokenizer.json.

    Raises:
        CheckpointError, ConversionError: one is malformed.
    """
    from pytest_aprqa.checks.integrity_finding import IntegrityFinding
    from pytest_aprqa.checks.integrity_tokenizer import ids_by_token
    from pytest_aprqa.conversion.portable import ConversionError
    from pytest_aprqa.conversion.tokenizers.source import json_file

    content = lab.once(source_content)
    if content is None:
        return None
    ids = ids_by_token(content)
    if isinstance(ids, IntegrityFinding):
        raise ConversionError(ids.message)
    files = lab.once(source_files).files
    settings, generation = (
        json_file(files, name) for name in ("tokenizer_config.json", "generation_config.json")
    )
    return OwnFiles(content, ids, settings, generation)


def token_text(token: Any) -> str | None:
    """A special token's text: plain, or an object with its `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def end_ids(lab: ModelLab, own_: OwnFiles) -> dict[str, set[int]]:
    """The end tokens by the file that names them; files that name none are left out."""
    inner = lab.config.get("text_config")
    named = {
        "generation_config.json": own_.generation.get("eos_token_id"),
        "config.json": lab.config.get("eos_token_id")
        or (inner.get("eos_token_id") if isinstance(inner, dict) else None),
    }
    found = {
        place: set(value if isinstance(value, list) else [value])
        for place, value in named.items()
        if value is not None
    }
    text = token_text(own_.settings.get("eos_token"))
    if text is not None and text in own_.ids:
        found["tokenizer_config.json"] = {own_.ids[text]}
    return found


def _stated(
    gate_id: str, assertion: str, severity: Severity = Severity.P1
) -> Callable[[Callable[[ModelLab, OwnFiles], Finding]], None]:
    """A gate about statements, without meaning where there is no tokenizer.json."""

    def add(check: Callable[[ModelLab, OwnFiles], Finding]) -> None:
        @statements.gate(gate_id, assertion, severity=severity, applies=_APPLIES)
        def _check(lab: ModelLab) -> Finding:
            found = lab.once(own_files)
            return without_meaning(_NONE) if found is None else check(lab, found)

    return add


def _loaded(
    gate_id: str, assertion: str, severity: Severity = Severity.P1
) -> Callable[[Callable[[OwnFiles, SourceText], Finding]], None]:
    """A gate about the loaded tokenizer, without meaning where there is none."""

    def add(check: Callable[[OwnFiles, SourceText], Finding]) -> None:
        @own.gate(gate_id, assertion, severity=severity, applies=_APPLIES)
        def _check(lab: ModelLab) -> Finding:
            found, source = lab.once(own_files), lab.once(source_text)
            if found is None or source is None:
                return without_meaning(_NONE)
            return check(found, source)

    return add


def _bad(reason: str, file: str = TOKENIZER) -> Finding:
    return refuted(reason, culprit=file)


@_loaded(
    "F-CHECK-001",
    "Every text comes back from its tokens, where the tokenizer loses nothing by design",
    Severity.P0,
)
def _identity(files: OwnFiles, source: SourceText) -> Finding:
    from pytest_aprqa.checks.integrity_bpe import is_byte_level
    from pytest_aprqa.checks.integrity_tokenizer import is_lossless

    if not is_lossless(files.content):
        return without_meaning("this tokenizer changes text by design")
    names = [name for token in source.added if (name := token_text(token))]
    by_bytes = is_byte_level(files.content)
    judged = 0
    for text in ADVERSARIAL_TEXTS:
        expected = unicodedata.normalize("NFC", text) if source.imposes_nfc else text
        if not by_bytes:
            expected = expected.replace(_SPACE, " ")  # its own letter for a blank
        # Beside added tokens blanks come and go by design, and normal forms do not reach into them.
        if (source.swallows or not by_bytes or expected != text) and any(n in text for n in names):
            continue
        ids = source.ids(text)
        back = source.tokenizer.decode(list(ids), skip_special_tokens=False)
        judged += 1
        # Some put a blank before the first word.
        if back not in (expected, f" {expected}", expected.removeprefix(" ")):
            return _bad(f"{shown(text)} has ids {list(ids[:12])} and comes back as {back!r:.80}")
    return held(f"{judged} texts come back from their tokens")


@_loaded("F-TOK-DECODE-001", "Every id of the vocabulary has a text of its own when it is decoded")
def _decodable(files: OwnFiles, source: SourceText) -> Finding:
    numbers = sorted(files.ids.items(), key=lambda entry: entry[1])
    for start in range(0, len(numbers), _BATCH):
        piece = numbers[start : start + _BATCH]
        texts = source.tokenizer.decode_batch(
            [[number] for _, number in piece], skip_special_tokens=False
        )
        for (token, number), text in zip(piece, texts, strict=True):
            if not text and token.strip(f"{_SPACE} "):
                return _bad(f"id {number} is {token!r:.60} but decodes to nothing")
    return held(f"{len(numbers)} ids decode to text") if numbers else _bad("it has no tokens")


@_stated("F-TOK-UNIQUE-001", "No two tokens have one id", Severity.P0)
def _unique(lab: ModelLab, files: OwnFiles) -> Finding:
    seen: dict[int, str] = {}
    for token, number in sorted(files.ids.items()):
        if number in seen:
            return _bad(f"id {number} is both {seen[number]!r:.60} and {token!r:.60}")
        seen[number] = token
    return held(f"{len(seen)} tokens, each with an id of its own") if seen else _bad("no tokens")


@_stated("F-TOK-DENSE-001", "Ids run from 0 to the largest without a hole")
def _dense(lab: ModelLab, files: OwnFiles) -> Finding:
    numbers = set(files.ids.values())
    top = max(numbers, default=-1)
    hole = next((number for number in range(top) if number not in numbers), None)
    if hole is not None or top < 0:
        return _bad(f"no token has id {hole}, though ids go up to {top}")
    return held(f"ids from 0 to {top}")


@_stated("F-TOK-ROWS-001", "The embedding has a row for every token", Severity.P0)
def _rows(lab: ModelLab, files: OwnFiles) -> Finding:
    from pytest_aprqa.checks.integrity_config import embedding_rows
    from pytest_aprqa.checks.integrity_tokenizer import OTHER_MODALITY

    rows = embedding_rows(lab.config, lab.checkpoint.tensors)
    if rows is None:
        return _bad("the embedding cannot be found, so no token has a row", "config.json")
    added = {token_text(token) for token in files.content.get("added_tokens") or ()}
    for token, number in files.ids.items():
        excused = token in added and OTHER_MODALITY.search(token.lower())
        if number >= rows and not excused:
            return _bad(f"token {token!r:.60} has id {number}, but the embedding has {rows} rows")
    return held(f"{len(files.ids)} tokens in {rows} rows")


@_loaded("F-TOK-SPECIAL-001", "The name of each special token becomes its one id", Severity.P0)
def _special(files: OwnFiles, source: SourceText) -> Finding:
    named = [token_text(t) for t in source.added if t.get("special")]
    named += [token_text(files.settings.get(f"{n}_token")) for n in ("bos", "eos", "pad", "unk")]
    texts = [text for text in dict.fromkeys(named) if text is not None and text in files.ids]
    for text in texts:
        ids = source.ids(text)
        # A tokenizer that puts a blank before every text keeps doing so before a special token.
        if files.ids[text] not in ids or len([i for i in ids if i != files.ids[text]]) > 1:
            return _bad(f"{text!r:.60}: {around((files.ids[text],), ids)}")
    return (
        held(f"{len(texts)} special tokens have one id")
        if texts
        else without_meaning("there are no special tokens")
    )


@_stated("F-TOK-KNOWN-001", "Every special token that tokenizer_config.json names is a token")
def _known(lab: ModelLab, files: OwnFiles) -> Finding:
    keys = ("bos", "eos", "pad", "unk", "cls", "sep")
    named = {f"{key}_token": token_text(files.settings.get(f"{key}_token")) for key in keys}
    for key in ("additional_special_tokens", "extra_special_tokens"):
        members = files.settings.get(key)
        listed = list(members.values()) if isinstance(members, dict) else members or []
        named |= {f"{key}[{n}]": token_text(token) for n, token in enumerate(listed)}
    given = {place: text for place, text in named.items() if text is not None}
    for place, text in given.items():
        if text not in files.ids:
            return _bad(f"{place} is {text!r:.60}, which is no token", "tokenizer_config.json")
    if not given:
        return without_meaning("tokenizer_config.json names no special tokens")
    return held(f"{len(given)} named special tokens are known")


@_stated("F-TOK-AGREE-001", "tokenizer_config.json gives each added token the id of tokenizer.json")
def _agree(lab: ModelLab, files: OwnFiles) -> Finding:
    decoder = files.settings.get("added_tokens_decoder")
    if not isinstance(decoder, dict) or not decoder:
        return without_meaning("tokenizer_config.json lists no added tokens")
    for number, token in decoder.items():
        text = token_text(token)
        known = None if text is None else files.ids.get(text)
        if str(known) != str(number):
            return _bad(
                f"added_tokens_decoder gives {text!r:.60} the id {number:.20}, expected {known}",
                "tokenizer_config.json",
            )
    return held(f"{len(decoder)} added tokens agree")


@_stated("F-TOK-END-001", "The tokenizer's end token is among those at which generation ends")
def _ends(lab: ModelLab, files: OwnFiles) -> Finding:
    found = end_ids(lab, files)
    if len(found) < 2:
        return without_meaning("at most one file names an end token")
    first, *others = found.items()
    place, wanted = ("tokenizer_config.json", found.get("tokenizer_config.json"))
    if wanted is None:
        place, wanted = first
    stops = set().union(*(ids for other, ids in found.items() if other != place))
    if not wanted & stops:
        return _bad(
            f"{place} ends with {sorted(wanted)}, but the others with {sorted(stops)}", place
        )
    return held(f"{len(others) + 1} files agree on {sorted(wanted & stops)}")


@_stated("F-TOK-STOP-001", "Every id at which generation ends is a token", Severity.P0)
def _stops(lab: ModelLab, files: OwnFiles) -> Finding:
    numbers = set(files.ids.values())
    found = end_ids(lab, files)
    for place, ids in found.items():
        wrong = [number for number in ids if number not in numbers]
        if wrong:
            return _bad(f"{place}: eos_token_id {wrong[0]!r} is no token", place)
    return held(f"{len(found)} files name tokens") if found else without_meaning("no end token")


def _bpe(
    files: OwnFiles, mine: Callable[[IntegrityFinding], bool], fine: str, skipped: str = ""
) -> Finding:
    """What the check of vocabulary and merges says of one of its subjects."""
    from pytest_aprqa.checks.integrity_bpe import bpe_findings

    model = files.content["model"]
    if model.get("type", "BPE") != "BPE" or not model.get("merges"):
        return without_meaning("the tokenizer has no merges")
    found, notes = bpe_findings(files.content)
    wrong = [finding for finding in found if mine(finding)]
    if wrong:
        return _bad(wrong[0].message)
    if skipped and any(skipped in note for note in notes):
        return without_meaning(notes[0])
    return held(fine)


@_stated("F-TOK-MERGES-001", "Every merge joins tokens and makes a token", Severity.P0)
def _merges(lab: ModelLab, files: OwnFiles) -> Finding:
    return _bpe(
        files,
        lambda finding: finding.subject not in ("vocab", "alphabet"),
        "every merge joins tokens and makes one",
    )


@_stated("F-TOK-ORDER-001", "Ids follow the order of the merges, as training numbers them")
def _order(lab: ModelLab, files: OwnFiles) -> Finding:
    return _bpe(
        files,
        lambda finding: finding.subject == "vocab",
        "ids follow the merges",
        skipped="order of the vocabulary",
    )


@_stated("F-TOK-ALPHABET-001", "Every byte that UTF-8 uses has a token", Severity.P0)
def _alphabet(lab: ModelLab, files: OwnFiles) -> Finding:
    from pytest_aprqa.checks.integrity_bpe import is_byte_level

    content = files.content
    if not is_byte_level(content) and not content["model"].get("byte_fallback"):
        return without_meaning("the tokenizer does not go by bytes")
    return _bpe(files, lambda finding: finding.subject == "alphabet", "every byte has a token")


FAMILIES = (own, statements)
