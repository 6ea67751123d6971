"""One metadata value of a GGUF file, with the type that the file writes it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GgufField:
    """A value and its type by the specification's names: uint8 to float64, bool, string, array."""

    type: str
    value: Any
    """A Python number, bool or text; for an array a tuple of these."""
    items: str | None = None
    """The type of an array's items."""


def uint32(value: int) -> GgufField:
    """An unsigned number of 32 bits, the type of nearly every count in GGUF."""
    return GgufField("uint32", value)


def float32(value: float) -> GgufField:
    """A single-precision number."""
    return GgufField("float32", value)


def boolean(value: bool) -> GgufField:
    """True or false."""
    return GgufField("bool", value)


def string(value: str) -> GgufField:
    """A text."""
    return GgufField("string", value)


def array(items: str, values: Sequence[Any]) -> GgufField:
    """An array of values of one type."""
    return GgufField("array", tuple(values), items)
