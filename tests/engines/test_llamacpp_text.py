"""Tokens as text, byte for byte, whatever the kind of vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel

from pytest_aprqa.engines.llamacpp_text import (
    BYTE_LEVEL_BPE,
    CONTROL,
    USER_DEFINED,
    TokenText,
    piece_bytes,
)

SPM = 1
NORMAL, BYTE = 1 << 2, 1 << 5


@dataclass
class Vocabulary:
    """What the binding's vocabulary answers, for entries `(text, attributes)`."""

    vocab_type: int
    entries: tuple[tuple[str, int], ...]

    def get_text(self, token: int) -> str:
        return self.entries[token][0]

    def get_attr(self, token: int) -> int:
        return self.entries[token][1]

    def token_to_piece(self, token: int, _strip: int, _special: bool) -> str:
        text, attributes = self.entries[token]
        if attributes & USER_DEFINED:
            return text
        level = self.vocab_type == BYTE_LEVEL_BPE
        return piece_bytes(text, byte_level=level).decode("utf-8", "replace")

    def tokenize(self, text: str, _add: bool, _parse: bool) -> list[int]:
        texts = [entry[0] for entry in self.entries]
        return [texts.index(text)] if text in texts else [0, 0]


@pytest.mark.parametrize(
    ("text", "byte_level", "expected"),
    [
        ("Ġthe", True, b" the"),
        ("Ċ", True, b"\n"),
        ("Ń", True, b"\xad"),
        ("ðŁİī", True, "🎉".encode()),
        ("你", True, "你".encode()),  # an entry that is no byte-level text
        ("\u2581the", False, b" the"),
        ("<0xF0>", False, b"\xf0"),
        ("<0x0>", False, b"<0x0>"),
    ],
)
def test_the_bytes_of_a_piece(text: str, byte_level: bool, expected: bytes) -> None:
    assert piece_bytes(text, byte_level=byte_level) == expected


@given(st.binary(min_size=1, max_size=8))
def test_every_byte_has_its_letter(data: bytes) -> None:
    # The tokenizers package's own alphabet, by way of text that holds the bytes.
    text = data.decode("latin-1")
    ((letters, _),) = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert piece_bytes(letters, byte_level=True) == text.encode()


def test_the_alphabet_has_all_bytes() -> None:
    letters = sorted(ByteLevel.alphabet())
    assert {piece_bytes(letter, byte_level=True) for letter in letters} == {
        bytes((byte,)) for byte in range(256)
    }


@pytest.mark.parametrize(
    ("kind", "halves"),
    [
        (BYTE_LEVEL_BPE, (("ðŁ", NORMAL), ("İī", NORMAL))),
        (SPM, (("<0xF0>", BYTE), ("<0x9F>", BYTE), ("<0x8E>", BYTE), ("<0x89>", BYTE))),
    ],
)
def test_a_character_of_several_tokens_is_whole(
    kind: int, halves: tuple[tuple[str, int], ...]
) -> None:
    text = TokenText(Vocabulary(kind, halves))
    assert text.of(range(len(halves))) == "🎉"
    assert text.of([0]) == "\ufffd"
    assert text.of([]) == ""


def test_special_tokens_are_not_text_and_added_ones_are() -> None:
    entries = (("<|end|>", CONTROL), ("\ufffdĠ", USER_DEFINED), ("Ġa", NORMAL))
    text = TokenText(Vocabulary(BYTE_LEVEL_BPE, entries))
    assert text.of([2, 0, 1, 2]) == " a\ufffdĠ a"


def test_special_tokens_by_name() -> None:
    entries = (("x", NORMAL), ("<|end|>", CONTROL), ("<tool>", USER_DEFINED))
    text = TokenText(Vocabulary(BYTE_LEVEL_BPE, entries))
    assert [text.special(name) for name in ("<|end|>", "<tool>", "x", "two words")] == [
        1,
        2,
        None,
        None,
    ]
