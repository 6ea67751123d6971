"""Text from a GGUF model's tokens, byte for byte, and tokens from text."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# The bits of llama.h's llama_token_attr.
UNKNOWN, CONTROL, USER_DEFINED = 1 << 0, 1 << 3, 1 << 4
# llama.h's llama_vocab_type of byte-level BPE.
BYTE_LEVEL_BPE = 2
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenText:
    """A vocabulary's tokens as text, and text as its tokens, by llama.cpp's own tokenizer.

    The binding gives each token's text with bytes that are no UTF-8 on their own replaced; those
    tokens are read from the vocabulary instead, so that a character of several tokens is whole.
    """

    def __init__(self, vocab: Any) -> None:
        self._vocab = vocab
        self._byte_level = int(vocab.vocab_type) == BYTE_LEVEL_BPE
        self._pieces: dict[int, bytes] = {}

    def of(self, token_ids: Iterable[int]) -> str:
        """The text of tokens, special ones left out; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self._piece, token_ids)).decode("utf-8", "replace")

    def ids(self, text: str, *, special: bool) -> list[int]:
        """The text's tokens; `special` adds the start and end tokens that the file asks for."""
        return [int(i) for i in self._vocab.tokenize(text, special, True)]

    def special(self, text: str) -> int | None:
        """The id of the special or added token with this name; None when there is none."""
        ids = self.ids(text, special=False)
        if len(ids) != 1 or not self._vocab.get_attr(ids[0]) & (CONTROL | USER_DEFINED):
            return None
        return ids[0] if self._vocab.get_text(ids[0]) == text else None

    def _piece(self, token: int) -> bytes:
        if token not in self._pieces:
            self._pieces[token] = self._read(token)
        return self._pieces[token]

    def _read(self, token: int) -> bytes:
        attributes = self._vocab.get_attr(token)
        if attributes & (UNKNOWN | CONTROL):
            return b""
        shown = str(self._vocab.token_to_piece(token, 0, False))
        if "\ufffd" not in shown:
            return shown.encode()
        text = str(self._vocab.get_text(token))
        if attributes & USER_DEFINED:
            return text.encode()
        return piece_bytes(text, byte_level=self._byte_level)


def piece_bytes(text: str, *, byte_level: bool) -> bytes:
    """The bytes that a token's entry in the vocabulary stands for.

    Byte-level vocabularies write each byte as a letter of GPT-2's alphabet; the others write a
    byte that is not text as `<0xE2>`, and a space as U+2581.
    """
    if byte_level:
        letters = _byte_letters()
        return b"".join(
            bytes((letters[letter],)) if letter in letters else letter.encode() for letter in text
        )
    if byte := _BYTE.fullmatch(text):
        return bytes((int(byte[1], 16),))
    return text.replace("\u2581", " ").encode()


@cache
def _byte_letters() -> dict[str, int]:
    """GPT-2's alphabet (`bytes_to_unicode` of its encoder.py): printable bytes are themselves.

    The others are, in order, the letters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + place): byte for place, byte in enumerate(others)
    }
