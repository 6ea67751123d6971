"""The pieces of a SentencePiece model file (tokenizer.model), read without the library.

The file is a protocol buffer; only field 1 of ModelProto (pieces: text 1, score 2, type 3) is of
interest here. Source: sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.conversion.portable import ConversionError

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    score: float
    type: int
    """1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte."""


def read_pieces(model: bytes) -> tuple[Piece, ...]:
    """The pieces in the order of their ids.

    Raises ConversionError if the bytes are no SentencePiece model.
    """
    try:
        pieces = tuple(_piece(value) for number, value in _fields(model) if number == 1)
    except (ValueError, struct.error) as error:
        raise ConversionError(
            f"tokenizer.model: not readable as a SentencePiece model: {error}"
        ) from error
    if not pieces:
        raise ConversionError("tokenizer.model: holds no pieces; expected a SentencePiece model")
    return pieces


def _piece(data: bytes | int) -> Piece:
    if not isinstance(data, bytes):
        raise ValueError("a piece is no message")
    text, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            text = value.decode()
        elif number == 2 and isinstance(value, bytes):
            (score,) = struct.unpack("<f", value)
        elif number == 3 and isinstance(value, int):
            kind = value
    if not 1 <= kind <= 6:
        raise ValueError(f"piece {text!r} has type {kind}")
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """A message's fields: number, and a whole number or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at}: wire type {wire}")
        if at + length > len(data):
            raise ValueError(f"byte {at}: {length} bytes announced, {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError(f"byte {at}: the file ends within a number")
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(f"byte {at}: a number of more than 10 bytes")
