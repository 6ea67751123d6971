"""G0, tokenizer: its files are valid, agree with each other and fit the model's embedding."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_bpe import bpe_findings, is_byte_level
from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.checks.integrity_special import special_findings, template_findings
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FILE = "tokenizer.json"
# Embeddings are padded to a multiple of 8 or more rows (tensor cores). The largest padding of a
# published model is 1069 rows (gpt-oss), the largest share below 2 % (Phi-2).
_PADDING_MULTIPLE = 8
_PADDING_ROWS = 2048
_PADDING_SHARE = 0.05
# Multimodal families share one tokenizer: their text-only model has no row for the image token.
OTHER_MODALITY = re.compile(r"image|img|audio|video|vision")
"""Names of tokens of another modality."""
# Whole words, digits, code, accents, other scripts, and a character beyond the basic plane.
_TEXTS = (
    "What is 2 + 2?",
    "def add(a, b):\n    return a + b\n",
    "Größe, naïve café, 1234567890",
    "你好世界 🙂 привет",
)


def tokenizer_findings(
    directory: Path, *, config: Mapping[str, Any], rows: int | None
) -> tuple[list[IntegrityFinding], list[str]]:
    """What is wrong with the tokenizer of a model whose embedding has `rows` rows."""
    path = directory / _FILE
    templates = template_findings(directory)
    if not path.exists():
        if (directory / "tokenizer.model").is_file():
            return templates, [f"tokenizer: tokenizer.model without {_FILE}"]
        text = f"{directory}: there is no {_FILE}; expected one beside config.json"
        return [IntegrityFinding("tokenizer", _FILE, text), *templates], []
    try:
        content = read_json_object(path)
    except CheckpointError as error:
        return [IntegrityFinding("tokenizer", _FILE, str(error)), *templates], []
    ids = ids_by_token(content)
    if isinstance(ids, IntegrityFinding):
        return [ids, *templates], []
    findings, notes = _vocabulary(content, ids, rows)
    if content["model"].get("type", "BPE") == "BPE" and isinstance(content["model"]["vocab"], dict):
        found, unjudged = bpe_findings(content)
        findings, notes = findings + found, notes + unjudged
    else:
        notes.append(f"the order of the vocabulary: a {content['model'].get('type')} tokenizer")
    findings += _loaded(path, content, notes)
    findings += special_findings(directory, config=config, ids=ids, rows=rows)
    return findings + templates, notes


def ids_by_token(content: Mapping[str, Any]) -> dict[str, int] | IntegrityFinding:
    """Every token with its id, added tokens included; a finding if the file has no such thing."""
    model, added = content.get("model"), content.get("added_tokens") or []
    vocab = model.get("vocab") if isinstance(model, dict) else None
    try:
        if isinstance(vocab, dict):
            ids = dict(vocab)
        elif isinstance(vocab, list):  # Unigram: pairs of token and score, the place is the id
            ids = {token: number for number, (token, _) in enumerate(vocab)}
        else:
            raise TypeError("model.vocab is neither an object nor a list")
        ids |= {token["content"]: token["id"] for token in added}
    except (TypeError, KeyError, ValueError) as error:
        text = f"{_FILE}: no vocabulary can be read ({error!r:.120}); expected model.vocab"
        return IntegrityFinding("tokenizer", _FILE, text)
    wrong = [t for t, i in ids.items() if not isinstance(t, str) or type(i) is not int or i < 0]
    if wrong or not ids:
        what = f"token {wrong[0]!r:.60} has id {ids[wrong[0]]!r:.40}" if wrong else "it is empty"
        text = f"{_FILE}: vocabulary: {what}; expected ids from 0"
        return IntegrityFinding("tokenizer", _FILE, text)
    return ids


def _vocabulary(
    content: Mapping[str, Any], ids: Mapping[str, int], rows: int | None
) -> tuple[list[IntegrityFinding], list[str]]:
    """Ids twice, ids left out, and the count of tokens against the embedding's rows."""
    findings = [_finding(text, "vocab") for text in _numbering(content, ids)]
    if rows is None:
        return findings, ["the vocabulary's size: the embedding's rows are not known"]
    beyond = sorted((number, token) for token, number in ids.items() if number >= rows)
    added = {token["content"] for token in content.get("added_tokens") or []}
    excused = [t for _, t in beyond if t in added and OTHER_MODALITY.search(t.lower())]
    notes = [f"token {token!r} of another modality: it has no row" for token in excused]
    findings += [
        _finding(
            f"{_FILE}: token {token!r:.60} has id {number}, but the embedding has {rows} rows",
            token,
        )
        for number, token in beyond
        if token not in excused
    ]
    surplus = rows - (max(ids.values()) + 1)
    allowed = max(_PADDING_ROWS, _PADDING_SHARE * rows)
    if surplus > 0 and (rows % _PADDING_MULTIPLE or surplus > allowed):
        findings.append(
            _finding(
                f"{_FILE}: {rows - surplus} tokens for {rows} rows of the embedding; expected as "
                f"many, or rows padded to a multiple of {_PADDING_MULTIPLE} by at most "
                f"{allowed:.0f}",
                "vocab",
            )
        )
    return findings, notes


def _numbering(content: Mapping[str, Any], ids: Mapping[str, int]) -> Iterator[str]:
    tokens: dict[int, str] = {}
    for token, number in ids.items():
        if number in tokens:
            yield f"{_FILE}: id {number} is both {tokens[number]!r:.60} and {token!r:.60}"
        tokens[number] = token
    vocab = content["model"]["vocab"]
    for token in content.get("added_tokens") or []:
        known = vocab.get(token["content"]) if isinstance(vocab, dict) else None
        if known is not None and known != token["id"]:
            yield (
                f"{_FILE}: token {token['content']!r:.60} has id {known} in the vocabulary, "
                f"but {token['id']} among the added tokens"
            )
    top = max(tokens)
    if top > 4 * len(tokens):  # not holes in a row of ids but wild numbers
        yield f"{_FILE}: {len(tokens)} tokens, but ids up to {top}; expected ids in a row"
        return
    holes = [number for number in range(top) if number not in tokens]
    if holes:
        shown = ", ".join(map(str, holes[:5]))
        yield f"{_FILE}: {len(holes)} ids have no token ({shown}); expected ids in a row"


def _loaded(path: Path, content: Mapping[str, Any], notes: list[str]) -> list[IntegrityFinding]:
    """Whether the library loads the file, and whether texts survive it where they should."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the bindings raise bare Exception
        text = f"{_FILE}: tokenizers cannot load it: {one_line(error)}; expected a valid file"
        return [_finding(text, _FILE)]
    if not is_lossless(content):
        notes.append("decoding what was encoded: this tokenizer changes text by design")
        return []
    findings = []
    for text in _TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        back = tokenizer.decode(ids, skip_special_tokens=False)
        if back not in (text, " " + text):  # some put a blank before the first word
            findings.append(_finding(f"{_FILE}: {text!r} comes back as {back!r:.80}", "decoding"))
    return findings


def is_lossless(content: Mapping[str, Any]) -> bool:
    """Whether this kind of tokenizer gives every text back: bytes in, bytes out.

    The texts are in normal form C, which a tokenizer may therefore impose.
    """
    if content["model"].get("type", "BPE") != "BPE":
        return False
    if "byte_fallback" in content["model"] and content["model"]["byte_fallback"]:
        return '"ByteFallback"' in json.dumps(content.get("decoder"))
    normalizer = content.get("normalizer")
    plain = normalizer is None or normalizer.get("type") == "NFC"
    return plain and is_byte_level(content) and not content["model"].get("end_of_word_suffix")


def _finding(text: str, subject: str) -> IntegrityFinding:
    return IntegrityFinding("tokenizer", subject, text)
