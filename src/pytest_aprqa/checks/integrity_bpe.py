"""G0, tokenizer: what the vocabulary and the merges of a BPE tokenizer say about each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Trained BPE numbers its tokens in the order of the merges: the correlation is 1, and above 0.95
# where a converter put some tokens first. Shuffled ids give 0 ± 0.03 for a thousand merges.
MIN_MERGE_CORRELATION = 0.8
MIN_MERGES_TO_JUDGE = 64
# UTF-8 uses no 0xC0, 0xC1 nor 0xF5-0xFF (RFC 3629).
_UTF8_BYTES = tuple(b for b in range(256) if b not in (0xC0, 0xC1) and b < 0xF5)
_FILE = "tokenizer.json"


def bpe_findings(content: Mapping[str, Any]) -> tuple[list[IntegrityFinding], list[str]]:
    """Merges without tokens, ids out of the merges' order, bytes without tokens."""
    model = content["model"]
    vocab: dict[str, int] = model["vocab"]
    stated, prefix = model.get("merges"), str(model.get("continuing_subword_prefix") or "")
    merges = [_pair(merge) for merge in stated] if isinstance(stated, list) else [None]
    known = [pair for pair in merges if pair is not None]
    findings = list(_merges(vocab, known, prefix))
    if len(known) != len(merges):
        text = f"{_FILE}: {len(merges) - len(known)} merges are no pairs; expected two tokens each"
        findings.append(IntegrityFinding("tokenizer", "merges", text))
    order, notes = _order(vocab, known, prefix)
    return [*findings, *order, *_alphabet(content, vocab)], notes


def is_byte_level(content: Mapping[str, Any]) -> bool:
    """Whether text reaches the BPE as bytes in GPT-2's alphabet."""
    return any(
        '"ByteLevel"' in json.dumps(content.get(part)) for part in ("pre_tokenizer", "decoder")
    )


def _pair(merge: Any) -> tuple[str, str] | None:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) for p in parts):
        return parts[0], parts[1]
    return None


def _product(pair: tuple[str, str], prefix: str) -> str:
    return pair[0] + pair[1].removeprefix(prefix)


def _merges(
    vocab: Mapping[str, int], merges: list[tuple[str, str]], prefix: str
) -> Iterator[IntegrityFinding]:
    for rank, pair in enumerate(merges):
        lost = [token for token in (*pair, _product(pair, prefix)) if token not in vocab]
        if lost:
            text = (
                f"{_FILE}: merge {rank} {pair[0]!r} + {pair[1]!r} needs token {lost[0]!r}, "
                f"which is not in the vocabulary"
            )
            yield IntegrityFinding("tokenizer", lost[0], text)


def _order(
    vocab: Mapping[str, int], merges: list[tuple[str, str]], prefix: str
) -> tuple[list[IntegrityFinding], list[str]]:
    """Whether ids rise with the merges that make them, by Spearman's rank correlation."""
    import numpy as np

    products = dict.fromkeys(_product(pair, prefix) for pair in merges)
    ids = np.array([vocab[token] for token in products if token in vocab], dtype=np.int64)
    if ids.size < MIN_MERGES_TO_JUDGE:
        return [], [f"the order of the vocabulary: only {ids.size} merged tokens"]
    ranks = np.argsort(np.argsort(ids))
    correlation = float(np.corrcoef(np.arange(ids.size), ranks)[0, 1])
    if correlation >= MIN_MERGE_CORRELATION:
        return [], []
    text = (
        f"{_FILE}: token ids do not follow the merges (rank correlation {correlation:.2f}); "
        f"expected at least {MIN_MERGE_CORRELATION}: the vocabulary looks shuffled"
    )
    return [IntegrityFinding("tokenizer", "vocab", text)], []


def _alphabet(content: Mapping[str, Any], vocab: Mapping[str, int]) -> list[IntegrityFinding]:
    """Bytes of UTF-8 that have no token, so that text with them would be lost."""
    if is_byte_level(content):
        symbols = _gpt2_alphabet()
    elif content["model"].get("byte_fallback"):
        symbols = {byte: f"<0x{byte:02X}>" for byte in range(256)}
    else:
        return []
    lost = [byte for byte in _UTF8_BYTES if symbols[byte] not in vocab]
    if not lost:
        return []
    shown = ", ".join(f"0x{byte:02X}" for byte in lost[:5])
    text = f"{_FILE}: {len(lost)} bytes have no token ({shown}); expected all that UTF-8 uses"
    return [IntegrityFinding("tokenizer", "alphabet", text)]


def _gpt2_alphabet() -> dict[int, str]:
    """GPT-2's visible character for each byte (`bytes_to_unicode` of its encoder.py)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    shifted = {byte: chr(0x100 + number) for number, byte in enumerate(hidden)}
    return {byte: chr(byte) for byte in visible} | shifted
