"""Gates: the tokenizer inside a derived file, key by key, is the ground truth's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.finding import Finding, held, refuted, without_meaning
from pytest_aprqa.checks.gates.family import Family
from pytest_aprqa.checks.gates.lab import TargetLab
from pytest_aprqa.checks.gates.text.sources import (
    TOKENIZER,
    StoredKeys,
    source_files,
    source_text,
    stored_keys,
)
from pytest_aprqa.domain.gate import Cost, Place, Rung
from pytest_aprqa.domain.model import Format, Severity

if TYPE_CHECKING:
    from collections.abc import Collection

_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_MERGES, _SCORES = "tokenizer.ggml.merges", "tokenizer.ggml.scores"
_MODEL, _PRE = "tokenizer.ggml.model", "tokenizer.ggml.pre"
_TEMPLATE = "tokenizer.chat_template"
_SHOWN = 60

stored: Family[TargetLab] = Family(
    domain="stored tokenizer",
    place=Place.TARGET,
    cost=Cost.HEADERS,
    rung=Rung.TOKENS,
    formats=frozenset({Format.APR, Format.GGUF}),
    source="what llama.cpp's converter writes for the ground truth's tokenizer files",
)


def _keys(lab: TargetLab) -> StoredKeys | None:
    """Both sides' keys; None where the ground truth has no tokenizer.json."""
    return None if TOKENIZER not in lab.model.once(source_files).files else lab.once(stored_keys)


def _no_tokenizer() -> Finding:
    return without_meaning("the ground truth has no tokenizer.json to be held against")


def _added_ids(lab: TargetLab) -> frozenset[int]:
    source = lab.model.once(source_text)
    assert source is not None
    return frozenset(int(token["id"]) for token in source.added)


def _array(
    lab: TargetLab, key: str, pair: tuple[Any, Any], only: Collection[int] | None = None
) -> Finding:
    """Arrays by place; `only` these places of the expected one."""
    expected, found = pair
    if found is None:
        return refuted(f"{key} is missing; expected {len(expected)} entries", culprit=lab.file.name)
    places = range(len(expected)) if only is None else sorted(only)
    if not places:
        return without_meaning(f"the ground truth has none to compare with {key}")
    for place in places:
        there = found[place] if place < len(found) else None
        if there != expected[place]:
            return refuted(
                f"{key}[{place}] is {there!r:.{_SHOWN}}, expected {expected[place]!r:.{_SHOWN}}",
                culprit=lab.file.name,
            )
    return held(f"{len(places)} entries of {key} are the ground truth's")


def _scalar(lab: TargetLab, key: str) -> Finding:
    """One value; without meaning where neither side has it."""
    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    expected, found = keys.pair(key)
    if expected is None and found is None:
        return without_meaning(f"the ground truth has no {key.rpartition('.')[2]}")
    if found != expected:
        return refuted(
            f"{key} is {found!r:.{_SHOWN}}, expected {expected!r:.{_SHOWN}}",
            culprit=lab.file.name,
        )
    return held(f"{key} is {found!r:.{_SHOWN}}")


@stored.gate(
    "F-TOK-VOCAB-001",
    "Every ordinary token of the file has the text that its id has in the ground truth",
    severity=Severity.P0,
)
def _vocabulary(lab: TargetLab) -> Finding:
    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    pair = keys.pair(_TOKENS)
    ordinary = frozenset(range(len(pair[0]))) - _added_ids(lab)
    return _array(lab, _TOKENS, pair, ordinary)


@stored.gate(
    "F-TOK-SIZE-001",
    "The file has as many tokens as the ground truth's embedding has rows",
    severity=Severity.P0,
)
def _size(lab: TargetLab) -> Finding:
    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    expected, found = keys.pair(_TOKENS)
    count = 0 if found is None else len(found)
    if count != len(expected):
        return refuted(f"{count} tokens, expected {len(expected)}", culprit=lab.file.name)
    return held(f"{count} tokens")


@stored.gate(
    "F-TOK-ADDED-001",
    "Every added token of the ground truth has its text and id in the file",
    severity=Severity.P0,
)
def _added(lab: TargetLab) -> Finding:
    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    pair = keys.pair(_TOKENS)
    return _array(lab, _TOKENS, pair, {i for i in _added_ids(lab) if i < len(pair[0])})


@stored.gate(
    "F-TOK-TYPE-001",
    "Every token is of the ground truth's kind: normal, control, user-defined, unused or byte",
)
def _types(lab: TargetLab) -> Finding:
    keys = _keys(lab)
    return _no_tokenizer() if keys is None else _array(lab, _TYPES, keys.pair(_TYPES))


@stored.gate(
    "F-TOK-MERGE-001",
    "The merges are the ground truth's, in its order, or their scores order them so",
    severity=Severity.P0,
)
def _merges(lab: TargetLab) -> Finding:
    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    key = _MERGES if _MERGES in keys.expected else _SCORES
    return _array(lab, key, keys.pair(key))


@stored.gate("F-TOK-KIND-001", "The file names the ground truth's kind of tokenizer")
def _kind(lab: TargetLab) -> Finding:
    return _scalar(lab, _MODEL)


@stored.gate(
    "F-TOK-PRE-001",
    "The file names a pre-tokenizer that cuts as the ground truth's does",
    severity=Severity.P0,
)
def _pre(lab: TargetLab) -> Finding:
    from pytest_aprqa.conversion.portable import ConversionError
    from pytest_aprqa.conversion.tokenizers.pretokenizers import named

    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    expected, found = keys.pair(_PRE)
    if expected is None:
        return without_meaning("the ground truth's kind of tokenizer has no pre-tokenizer")
    try:
        alike = set(named(expected).all_names)
    except ConversionError:
        alike = set()
    if found not in {expected, *alike}:
        return refuted(f"{_PRE} is {found!r}, expected {expected!r}", culprit=lab.file.name)
    return held(f"{_PRE} is {found!r}")


def _special(name: str, key: str, word: str) -> None:
    @stored.gate(
        f"F-TOK-{name}-001",
        f"The file's {word} token is the ground truth's, where it has one",
        severity=Severity.P0 if name == "EOS" else Severity.P1,
        applies=f"the ground truth has a {word} token",
    )
    def _check(lab: TargetLab) -> Finding:
        return _scalar(lab, f"tokenizer.ggml.{key}_token_id")


_special("BOS", "bos", "start")
_special("EOS", "eos", "end")
_special("PAD", "padding", "padding")
_special("UNK", "unknown", "unknown-text")


@stored.gate(
    "F-TOK-ADDBOS-001",
    "The file says whether a text begins with the start token as the ground truth has it",
    severity=Severity.P0,
)
def _add_bos(lab: TargetLab) -> Finding:
    return _scalar(lab, "tokenizer.ggml.add_bos_token")


@stored.gate(
    "F-TOK-ADDEOS-001",
    "The file says whether a text ends with the end token as the ground truth has it",
    severity=Severity.P0,
)
def _add_eos(lab: TargetLab) -> Finding:
    return _scalar(lab, "tokenizer.ggml.add_eos_token")


@stored.gate(
    "F-TEMPLATE-STORED-001",
    "The file's chat template is the ground truth's, character for character",
    severity=Severity.P0,
    rung=Rung.TEMPLATE,
)
def _template(lab: TargetLab) -> Finding:
    keys = _keys(lab)
    if keys is None:
        return _no_tokenizer()
    expected, found = keys.pair(_TEMPLATE)
    if expected is None and found is None:
        return without_meaning("the model has no chat template")
    if found == expected:
        return held(f"{len(found)} characters, all the ground truth's")
    if expected is None or found is None:
        which = "only the file" if expected is None else "only the ground truth"
        return refuted(f"{which} has a chat template", culprit=lab.file.name)
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(found)))
    return refuted(
        f"the chat template is {found[at : at + 40]!r} at character {at}, "
        f"expected {expected[at : at + 40]!r}",
        culprit=lab.file.name,
    )


@stored.gate(
    "F-TOK-FILE-001",
    "The tokenizer files that travel in the file are the ground truth's, byte for byte",
)
def _files(lab: TargetLab) -> Finding:
    from pytest_aprqa.conversion.tokenizers.apr_fields import file_fields as apr_files
    from pytest_aprqa.conversion.tokenizers.embedded_files import NAMES_KEY, extracted_files
    from pytest_aprqa.formats.gguf_file import GgufFile

    checkpoint = lab.checkpoint
    if NAMES_KEY not in checkpoint.metadata:
        return without_meaning("the file was made elsewhere: no tokenizer files travel in it")
    if isinstance(checkpoint, GgufFile):
        fields = checkpoint.fields
    else:
        fields = apr_files(checkpoint.metadata)
    there = extracted_files(fields) or {}
    expected = lab.model.once(source_files).files
    for name in sorted({*there, *expected}):
        if there.get(name) != expected.get(name):
            seen = "missing" if name not in there else f"{len(there[name])} other bytes"
            wanted = len(expected.get(name, b""))
            return refuted(
                f"{name} in the file is {seen}, expected {wanted} bytes", culprit=lab.file.name
            )
    return held(f"{len(expected)} files travel unchanged") if expected else _no_tokenizer()


FAMILIES = (stored,)
