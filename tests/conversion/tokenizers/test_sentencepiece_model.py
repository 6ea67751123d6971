"""tokenizer.model is read as the library reads it, and malformed ones are refused."""

from __future__ import annotations

import random

import pytest
import sentencepiece

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers.sentencepiece_model import read_pieces
from tests.conversion.tokenizers.kinds import kind


@pytest.mark.parametrize("name", ["llama-2", "gemma"])
def test_pieces_are_those_that_the_library_has(name: str) -> None:
    model = kind(name).files["tokenizer.model"]
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = read_pieces(model)
    assert len(pieces) == library.get_piece_size()
    for number, piece in enumerate(pieces):
        assert piece.text == library.id_to_piece(number)
        assert piece.score == library.get_score(number)
        assert (piece.type == 6) == library.is_byte(number)
        assert (piece.type == 3) == library.is_control(number)
        assert (piece.type == 2) == library.is_unknown(number)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "holds no pieces"),
        (b"\x0a\x05abc", "5 bytes announced, 3 are left"),
        (b"\x0a", "the file ends within a number"),
        (b"\xff" * 12, "a number of more than 10 bytes"),
        (b"\x0f\x00", "wire type 7"),
        (b"\x08\x01", "a piece is no message"),
        (b"\x0a\x02\x18\x09", "piece '' has type 9"),
        (b"\x0a\x03\x0a\x01\xff", "can't decode byte"),
    ],
)
def test_what_is_no_model_is_refused(model: bytes, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        read_pieces(model)


def test_any_damage_gives_pieces_or_one_clear_error() -> None:
    model = kind("llama-2").files["tokenizer.model"]
    dice = random.Random(7)
    told = []
    for _ in range(300):
        damaged = bytearray(model[: dice.randrange(1, 4000)])
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            told.append(f"{len(read_pieces(bytes(damaged)))} pieces")
        except ConversionError as error:
            told.append(str(error))
    refused = [line for line in told if line.startswith("tokenizer.model: ")]
    read = [line for line in told if line.endswith(" pieces")]
    assert len(refused) + len(read) == 300
    assert len(refused) > 100
