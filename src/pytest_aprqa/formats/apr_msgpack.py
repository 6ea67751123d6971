"""Decoding of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md), bounded."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Any

MAX_DEPTH = 32
# Type byte to the form of the number that follows, and of the length that follows.
_NUMBERS = MappingProxyType(
    {
        **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
        **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
    }
)
_TEXTS = MappingProxyType({0xD9: ">B", 0xDA: ">H", 0xDB: ">I"})
_BYTES = MappingProxyType({0xC4: ">B", 0xC5: ">H", 0xC6: ">I"})
_ARRAYS = MappingProxyType({0xDC: ">H", 0xDD: ">I"})
_MAPS = MappingProxyType({0xDE: ">H", 0xDF: ">I"})
_CONSTANTS = MappingProxyType({0xC0: None, 0xC2: False, 0xC3: True})


class MsgpackError(ValueError):
    """Bytes that are no MessagePack value, or nest too deeply."""


def parse_msgpack(data: bytes) -> Any:
    """The one value that the bytes hold.

    Raises:
        MsgpackError: for bytes cut short or left over, unknown types, text that is not UTF-8,
            a key that is no text, or more than 32 levels.
    """
    decoder = _Decoder(data)
    value = decoder.value(0)
    if decoder.place != len(data):
        raise MsgpackError(f"{len(data) - decoder.place} bytes follow the value")
    return value


class _Decoder:
    """A place in the bytes, moved on by each value."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def value(self, depth: int) -> Any:
        """The value that begins here."""
        if depth > MAX_DEPTH:
            raise MsgpackError(f"more than {MAX_DEPTH} levels")
        kind = self.take(1)[0]
        if kind <= 0x7F:
            return kind
        if kind >= 0xE0:
            return kind - 256
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind in _BYTES:
            return self.take(self.number(_BYTES[kind]))
        if kind <= 0x8F or kind in _MAPS:
            return self.map(self.number(_MAPS[kind]) if kind in _MAPS else kind & 15, depth)
        if kind <= 0x9F or kind in _ARRAYS:
            count = self.number(_ARRAYS[kind]) if kind in _ARRAYS else kind & 15
            return [self.value(depth + 1) for _ in range(self.possible(count))]
        if kind <= 0xBF or kind in _TEXTS:
            return self.text(self.number(_TEXTS[kind]) if kind in _TEXTS else kind & 31)
        raise MsgpackError(f"unknown type {kind:#x} at byte {self.place - 1}")

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > len(self.data) - self.place:
            raise MsgpackError(f"cut short at byte {self.place}")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, form: str) -> Any:
        """The next number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def possible(self, count: int) -> int:
        """A count of values, each of which takes at least a byte."""
        if count > len(self.data) - self.place:
            raise MsgpackError(f"{count} values cannot follow byte {self.place}")
        return count

    def text(self, count: int) -> str:
        """The next text."""
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError as error:
            raise MsgpackError(f"text before byte {self.place} is not UTF-8") from error

    def map(self, count: int, depth: int) -> dict[str, Any]:
        """The next pairs."""
        found: dict[str, Any] = {}
        for _ in range(self.possible(count)):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise MsgpackError(f"a key before byte {self.place} is no text")
            found[key] = self.value(depth + 1)
        return found
