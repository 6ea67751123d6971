"""A good GGUF file with values of every type, put together by hand, and doctored ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from pytest_aprqa.formats.encodings import nbytes_of
from tests.formats.mutations import BAD_TEXT, DEPTH, NUMBERS, Base, Layout, Mutation

# Numbers of the value types: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
NUMBER_FORMS = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"},
    **{10: "<Q", 11: "<q", 12: "<d"},
}
STRING, ARRAY = 8, 9
# Numbers of the tensor types (enum ggml_type).
TENSOR_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8, "Q2_K": 10, "Q4_K": 12, "Q6_K": 14}
TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "token_embd.weight": ("F32", (2, 3)),
    "a": ("F16", (3,)),
    "b": ("Q4_0", (2, 32)),
    "c": ("Q8_0", (32,)),
    "d": ("Q4_K", (1, 256)),
    "e": ("Q2_K", (256,)),
    "f": ("Q6_K", (1, 1, 256)),
}
FIELDS: list[tuple[str, int, Any]] = [
    ("general.architecture", STRING, "llama"),
    ("llama.block_count", 4, 1),
    *((f"n{kind}", kind, 1) for kind in NUMBER_FORMS),
    ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<s>", "▁a", "😀", ""])),
    ("tokenizer.ggml.scores", ARRAY, (6, [0.0, -1.5, -2.0, -3.0])),
    ("tokenizer.ggml.token_type", ARRAY, (5, [3, 1, 1, 1])),
    ("flags", ARRAY, (7, [True, False])),
    ("nested", ARRAY, (ARRAY, [(4, [1, 2]), (STRING, ["x"])])),
]


def _text(layout: Layout, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    layout.number("<Q", len(data))
    layout.put(data)


def _value(layout: Layout, kind: int, value: Any) -> None:
    if kind == STRING:
        _text(layout, value)
    elif kind == ARRAY:
        items, values = value
        layout.number("<I", items)
        layout.number("<Q", len(values))
        for one in values:
            _value(layout, items, one)
    else:
        form = NUMBER_FORMS[kind]
        layout.fields.append((len(layout.data), struct.calcsize(form)))
        layout.put(struct.pack(form, value))


Entry = tuple[str, int, tuple[int, ...], int]
"""Name, type, dimensions innermost first, offset."""


def gguf_header(fields: list[tuple[str, int, Any]], entries: list[Entry], version: int) -> Layout:
    """Everything before the tensors' bytes."""
    layout = Layout(bytearray(b"GGUF"))
    layout.number("<I", version)
    layout.number("<Q", len(entries), len(fields))
    for key, kind, value in fields:
        _text(layout, key)
        layout.number("<I", kind)
        _value(layout, kind, value)
    for name, kind, dims, offset in entries:
        _text(layout, name)
        layout.number("<I", len(dims))
        layout.number("<Q", *dims)
        layout.number("<I", kind)
        layout.number("<Q", offset)
    layout.align(32)
    return layout


def gguf_base() -> Base:
    """Keys of every type, tensors of seven types."""
    rng, entries, tail = random.Random(2), list[Entry](), bytearray()
    for name, (encoding, shape) in TENSORS.items():
        size = nbytes_of(encoding, shape)
        entries.append((name, TENSOR_TYPES[encoding], shape[::-1], len(tail)))
        tail += rng.randbytes(size) + bytes(-size % 32)
    good = gguf_header(FIELDS, entries, 3)

    def made(change: Callable[[Layout], None]) -> bytes:
        """A file of this header with one thing between its counts and its keys."""
        layout = Layout(bytearray(b"GGUF"))
        layout.number("<I", 3)
        layout.number("<Q", 0, 1)
        _text(layout, "k")
        change(layout)
        return bytes(layout.data) + bytes(64)

    doctored = _values(made) + _entries(entries, bytes(tail))
    doctored += [
        ("version", bytes(gguf_header(FIELDS, entries, version).data + tail))
        for version in (0, 1, 2, 4, 3 << 24, 2**32 - 1)
    ]
    data = bytes(good.data + tail)
    return Base(data, len(good.data), tuple(good.fields), doctored=tuple(doctored))


def _values(made: Callable[[Callable[[Layout], None]], bytes]) -> list[Mutation]:
    """One key with a value that is not right."""
    found = []

    def raw(kind: str, data: bytes) -> None:
        found.append((kind, made(lambda layout: layout.put(data))))

    for kind in (*range(20), 2**31, 2**32 - 1):
        raw("value type", struct.pack("<I", kind))
        for items in (*range(16), 2**32 - 1):
            for count in NUMBERS:
                raw("array", struct.pack("<IIQ", ARRAY, items, count))
    level = struct.pack("<IQ", ARRAY, 1)
    raw("deep", struct.pack("<I", ARRAY) + level * DEPTH)
    for bad in BAD_TEXT:
        raw("bad text", struct.pack("<IQ", STRING, len(bad)) + bad)
    raw("wide", struct.pack("<IIQ", ARRAY, STRING, 400_000) + bytes(8 * 400_000))
    raw("wide", struct.pack("<IIQ", ARRAY, 0, 3_000_000) + bytes(3_000_000))
    raw("wide", struct.pack("<IIQ", ARRAY, ARRAY, 200_000) + bytes(12 * 200_000))
    return found


def _entries(entries: list[Entry], tail: bytes) -> list[Mutation]:
    """Tensors with names, types, shapes and places that are not right."""
    alignment = "general.alignment"

    def one(kind: str, *changed: Entry, fields: list[tuple[str, int, Any]] = FIELDS) -> Mutation:
        return kind, bytes(gguf_header(fields, list(changed), 3).data) + tail

    shapes = ((0, 2**62), (2**63 - 1, 2), (2**64 - 1,), (3, 2), (33,), (1,) * 5, ())
    found = [
        one("dtype or shape", ("x", kind, shape, 0))
        for kind in (*range(45), 2**31, 2**32 - 1)
        for shape in shapes
    ]
    first, second = entries[0], entries[1]
    found += [
        one("overlap", first, (*second[:3], offset))
        for offset in (0, 1, 8, 31, 64, 2**63, 2**64 - 1)
    ]
    found += [one("duplicate", first, first), one("duplicate", first, (*first[:3], second[3]))]
    found += [one("name", (name, *first[1:])) for name in ("", "a\n", "n" * 300, "n" * 70_000)]
    found += [one("alignment", first, fields=[(alignment, 4, n)]) for n in (0, 1, 7, 64, 2**31)]
    found += [one("alignment", first, fields=[(alignment, STRING, "32")])]
    found += [one("duplicate", first, fields=[*FIELDS, FIELDS[0]])]
    splits = [("split.no", 2, 0), ("split.count", 2, 3), ("split.tensors.count", 5, 7)]
    found += [one("split", *entries, fields=[*FIELDS, *splits[:n]]) for n in (1, 2, 3)]
    return found
