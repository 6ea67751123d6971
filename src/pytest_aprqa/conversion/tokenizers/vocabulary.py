"""The token list, its types and scores, as llama.cpp's converter writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.source import SPACE, SourceTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_aprqa.conversion.tokenizers.sentencepiece_model import Piece

BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
"""A single byte, where merges run over text."""
PADDING_SCORE, ADDED_SCORE = -10000.0, -1000.0
"""Of slots without a token and of added tokens, in llama.cpp's converter."""
_LOOKS_SPECIAL = re.compile(
    r"<pad>|<mask>|<2mass>|\[@BOS@\]|<\|.*\|>|<\uff5c.*\uff5c>|<unused.*>", re.S
)
"""Added tokens that some models forgot to mark as special (llama.cpp's converter)."""


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, which SentencePiece numbers alike."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class TokenList:
    """One entry for each row of the embedding."""

    texts: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] | None = None
    """Higher merges first; None where merges are listed."""


def byte_level_list(source: SourceTokenizer) -> TokenList:
    """The list for `tokenizer.ggml.model` gpt2; empty rows are [PADn] and unused."""
    texts, types = [], []
    for number in range(source.vocab_size):
        text, kind = _padding(number)
        if number in source.tokens:
            text, kind = source.tokens[number], TokenType.NORMAL
        if number in source.added:
            text, kind = _added(source, number)
        texts.append(text)
        types.append(int(kind))
    return TokenList(_unique(texts), tuple(types))


def sentencepiece_list(source: SourceTokenizer, pieces: Sequence[Piece] | None) -> TokenList:
    """The list for `tokenizer.ggml.model` llama.

    Types and scores come from tokenizer.model's pieces if they are given, else the scores follow
    the ranks of tokenizer.json's merges. Raises ConversionError where llama.cpp, which merges any
    two neighbours whose text is a token, would not merge as tokenizer.json does.
    """
    _check_merges(source)
    scores = _rank_scores(source) if pieces is None else _piece_scores(source, pieces)
    texts, types, listed = [], [], []
    for number in range(source.vocab_size):
        text, kind = _padding(number)
        score = PADDING_SCORE
        if number in source.tokens:
            text = source.tokens[number]
            kind = _type(text, number, source, pieces)
            score = scores.get(text, ADDED_SCORE)
        if number in source.added:
            (text, kind), score = _added(source, number), ADDED_SCORE
        texts.append(text)
        types.append(int(kind))
        listed.append(score)
    missing = {f"<0x{byte:02X}>" for byte in range(256)} - set(texts)
    if missing:
        raise ConversionError(
            f"tokenizer.json: the token {min(missing)} is missing ({len(missing)} of 256 bytes "
            f"are); expected byte fallback, as llama.cpp spells unknown letters in bytes"
        )
    return TokenList(_unique(texts), tuple(types), tuple(listed))


def _padding(number: int) -> tuple[str, TokenType]:
    return f"[PAD{number}]", TokenType.UNUSED


def _added(source: SourceTokenizer, number: int) -> tuple[str, TokenType]:
    token = source.added[number]
    if token.special or _LOOKS_SPECIAL.fullmatch(token.content):
        return token.content, TokenType.CONTROL
    return token.content.replace(SPACE, " "), TokenType.USER_DEFINED


def _unique(texts: list[str]) -> tuple[str, ...]:
    """The texts, if each is there once: llama.cpp aborts the process on a second one."""
    first: dict[str, int] = {}
    for number, text in enumerate(texts):
        if first.setdefault(text, number) != number:
            raise ConversionError(
                f"tokenizer.json: tokens {first[text]} and {number} are both {text!r}; "
                f"expected every token once"
            )
    return tuple(texts)


def _type(
    text: str, number: int, source: SourceTokenizer, pieces: Sequence[Piece] | None
) -> TokenType:
    if pieces is not None and number < len(pieces):
        kind = TokenType(pieces[number].type)
        # llama.cpp's converter does not ask SentencePiece which pieces the user defined.
        return TokenType.NORMAL if kind == TokenType.USER_DEFINED else kind
    if BYTE_TOKEN.fullmatch(text):
        return TokenType.BYTE
    unknown = source.tokenizer["model"].get("unk_token")
    return TokenType.UNKNOWN if text == unknown else TokenType.NORMAL


def _rank_scores(source: SourceTokenizer) -> dict[str, float]:
    """Minus the order in which merges first make a token; 0 for what no merge makes."""
    scores: dict[str, float] = dict.fromkeys(source.tokens.values(), 0.0)
    order: dict[str, int] = {}
    for left, right in source.merges:
        order.setdefault(left + right, len(order) + 1)
    return scores | {text: -float(number) for text, number in order.items()}


def _piece_scores(source: SourceTokenizer, pieces: Sequence[Piece]) -> dict[str, float]:
    """tokenizer.model's scores, if they put the merges into tokenizer.json's order."""
    advice = "expected both files from one training. Remove tokenizer.model to go by tokenizer.json"
    for number, piece in enumerate(pieces[: source.vocab_size]):
        if number not in source.added and source.tokens.get(number) != piece.text:
            raise ConversionError(
                f"tokenizer.model: piece {number} is {piece.text!r}, but tokenizer.json has "
                f"{source.tokens.get(number)!r}; {advice}"
            )
    scores = {piece.text: piece.score for piece in pieces}
    made = [left + right for left, right in source.merges]
    for earlier, later in pairwise(made):
        if scores.get(earlier, ADDED_SCORE) < scores.get(later, ADDED_SCORE):
            raise ConversionError(
                f"tokenizer.model: {later!r} has a higher score than {earlier!r}, which "
                f"tokenizer.json merges first; {advice}"
            )
    return scores


def _check_merges(source: SourceTokenizer) -> None:
    """That the merges are all there are: every split of a token into two others."""
    listed = set(source.merges)
    plain = {
        text
        for number, text in source.tokens.items()
        if number not in source.added and not BYTE_TOKEN.fullmatch(text)
    }
    left_out = [
        (text[:at], text[at:])
        for text in plain
        for at in range(1, len(text))
        if text[:at] in plain and text[at:] in plain and (text[:at], text[at:]) not in listed
    ]
    if left_out:
        left, right = min(left_out)
        raise ConversionError(
            f"tokenizer.json: {left!r} and {right!r} are tokens and so is {left + right!r}, but no "
            f"merge joins them ({len(left_out)} such pairs); llama.cpp's SentencePiece tokenizer "
            f"would. Expected the merges that transformers derives from a SentencePiece model"
        )


def merges_from_scores(texts: Mapping[str, tuple[int, float]]) -> list[list[str]]:
    """The merges of a SentencePiece vocabulary given as text to (id, score), best first.

    Every split of a token into two others is a merge, ranked by the token's score, as in
    transformers' SentencePieceExtractor.
    """
    merges = [
        (-score, number, texts[text[:at]][0], texts[text[at:]][0], text[:at], text[at:])
        for text, (number, score) in texts.items()
        for at in range(1, len(text))
        if text[:at] in texts and text[at:] in texts
    ]
    return [[left, right] for *_, left, right in sorted(merges)]
