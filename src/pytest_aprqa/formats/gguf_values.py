"""Reading one GGUF value after another, none of them beyond the file or beyond bounded memory."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_field import GgufField

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

    import numpy as np

# Value types by their numbers in the file, by the specification's names.
VALUE_TYPES = MappingProxyType(
    {
        **{0: "uint8", 1: "int8", 2: "uint16", 3: "int16", 4: "uint32", 5: "int32"},
        **{6: "float32", 7: "bool", 8: "string", 9: "array"},
        **{10: "uint64", 11: "int64", 12: "float64"},
    }
)
# NumPy's view of each plain number.
NUMBER_VIEWS = MappingProxyType(
    {
        **{"uint8": "<u1", "int8": "<i1", "uint16": "<u2", "int16": "<i2"},
        **{"uint32": "<u4", "int32": "<i4", "uint64": "<u8", "int64": "<i8"},
        **{"float32": "<f4", "float64": "<f8", "bool": "<u1"},
    }
)
# The specification sets no depth; no published file nests at all.
MAX_DEPTH = 4
# Beside the file's own size, what its metadata may take in memory. A vocabulary of 262 000 tokens
# with 515 000 merges takes about 70 MB.
_SPARE_BYTES = 90_000_000
# A list's and a tuple's slot, and a number's object (28 bytes, rounded up).
_NUMBER_COST = 16 + 32
# An inner array is a field, its tuple, and its slots in the outer one.
_ARRAY_COST = 200
_LONG_TEXT = 4096
_UINT32, _UINT64 = struct.Struct("<I"), struct.Struct("<Q")


class ValueReader:
    """A position in a mapped file, and the memory that the values read so far take."""

    def __init__(self, path: Path, data: mmap.mmap | bytes, *, position: int) -> None:
        self.path, self.position = path, position
        self._data, self._size = data, len(data)
        self._room = self._size + _SPARE_BYTES

    @property
    def left(self) -> int:
        """Bytes between the position and the end of the file."""
        return self._size - self.position

    def charge(self, nbytes: int, what: str) -> None:
        """Account for memory that is about to be taken."""
        self._room -= nbytes
        if self._room < 0:
            raise CheckpointError(
                f"{self.path}: at {what} the metadata takes more memory than the file's size and "
                f"{_SPARE_BYTES} bytes; the file is damaged"
            )

    def uint32(self, what: str) -> int:
        """The next four bytes as a number."""
        return int(_UINT32.unpack_from(self._data, self._step(4, what))[0])

    def uint64(self, what: str) -> int:
        """The next eight bytes as a number."""
        return int(_UINT64.unpack_from(self._data, self._step(8, what))[0])

    def text(self, what: str, *, max_bytes: int | None = None) -> str:
        """The next text: its length, then strict UTF-8 (llama.cpp's own vocabularies are that)."""
        length = self.uint64(f"the length of {what}")
        if max_bytes is not None and length > max_bytes:
            raise CheckpointError(
                f"{self.path}: {what} at byte {self.position} claims {length} bytes; "
                f"expected at most {max_bytes}"
            )
        start = self._step(length, what)
        if length > _LONG_TEXT:
            self.charge(_text_cost(self._data, start, length), what)
        try:
            return str(self._data[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(
                f"{self.path}: {what} is not UTF-8 at byte {start + error.start}; expected text"
            ) from error

    def field(self, what: str) -> GgufField:
        """The next value with the type that stands before it."""
        kind = self._type(what)
        if kind == "array":
            return self._array(what, depth=1)
        if kind == "string":
            return GgufField(kind, self.text(what))
        return GgufField(kind, self._numbers(kind, 1, what)[0])

    def _type(self, what: str) -> str:
        number = self.uint32(f"the type of {what}")
        if number not in VALUE_TYPES:
            raise CheckpointError(
                f"{self.path}: {what} has the unknown value type {number}; expected 0 to 12"
            )
        return VALUE_TYPES[number]

    def _array(self, what: str, *, depth: int) -> GgufField:
        if depth > MAX_DEPTH:
            raise CheckpointError(
                f"{self.path}: {what} nests arrays deeper than {MAX_DEPTH} levels"
            )
        items = self._type(f"the items of {what}")
        count = self.uint64(f"the length of {what}")
        smallest = {"string": 8, "array": 12}.get(items) or int(NUMBER_VIEWS[items][-1])
        if count > self.left // smallest:
            raise CheckpointError(
                f"{self.path}: {what} claims {count} items of type {items}, but {self.left} bytes "
                f"follow; the file is cut short or damaged"
            )
        if items == "string":
            return GgufField("array", self._texts(count, what), items)
        if items == "array":
            self.charge(count * _ARRAY_COST, what)
            inner = tuple(self._array(what, depth=depth + 1) for _ in range(count))
            return GgufField("array", inner, items)
        return GgufField("array", tuple(self._numbers(items, count, what)), items)

    def _numbers(self, kind: str, count: int, what: str) -> list[Any]:
        self.charge(count * _NUMBER_COST, what)
        values = self._viewed(kind, count, what)
        if kind == "bool":
            if (values > 1).any():
                raise CheckpointError(
                    f"{self.path}: {what} holds {int(values.max())} as a bool; expected 0 or 1"
                )
            values = values.astype(bool)
        numbers: list[Any] = values.tolist()
        return numbers

    def _viewed(self, kind: str, count: int, what: str) -> np.ndarray[Any, Any]:
        import numpy as np

        dtype = np.dtype(NUMBER_VIEWS[kind])
        start = self._step(count * dtype.itemsize, what)
        # A copy: a view would keep the map from being closed when the reader is done.
        return np.frombuffer(self._data[start : self.position], dtype)

    def _texts(self, count: int, what: str) -> tuple[str, ...]:
        """Many texts; the loop keeps to local names, as vocabularies have 10**5 and more."""
        data, size, position, unpack = self._data, self._size, self.position, _UINT64.unpack_from
        texts: list[str] = []
        add, taken = texts.append, 16 * count
        self.charge(taken, what)
        taken = 0
        for _ in range(count):
            begin = position + 8
            if begin > size:
                self._cut_short(what)
            length = unpack(data, position)[0]
            position = begin + length
            if length > _LONG_TEXT or position > size:
                self.position = begin - 8
                self.charge(taken, what)
                taken = 0
                add(self.text(f"item {len(texts)} of {what}"))
                continue
            try:
                text = str(data[begin:position], "utf-8")
            except UnicodeDecodeError as error:
                raise CheckpointError(
                    f"{self.path}: item {len(texts)} of {what} is not UTF-8 at byte "
                    f"{begin + error.start}; expected text"
                ) from error
            add(text)
            taken += text.__sizeof__()
            if taken > 1_000_000:
                self.charge(taken, what)
                taken = 0
        self.charge(taken, what)
        self.position = position
        return tuple(texts)

    def _step(self, count: int, what: str) -> int:
        """The position, which then moves on by `count` bytes that the file is sure to have."""
        start = self.position
        if count > self._size - start:
            self._cut_short(what, needed=count)
        self.position = start + count
        return start

    def _cut_short(self, what: str, needed: int = 8) -> None:
        raise CheckpointError(
            f"{self.path}: {what} needs {needed} bytes at byte {self.position}, but only "
            f"{self.left} follow; the file is cut short or damaged"
        )


def _text_cost(data: mmap.mmap | bytes, start: int, length: int) -> int:
    """Bytes that a long text takes, decoded and not: its widest character decides."""
    import numpy as np

    raw = np.frombuffer(data, np.uint8, length, start)
    widest = int(raw.max())
    # UTF-8 begins characters beyond U+FFFF with 0xF0 and beyond U+00FF with 0xC4.
    width = 4 if widest >= 0xF0 else 2 if widest >= 0xC4 else 1
    characters = length if width == 1 else length - int(np.count_nonzero((raw & 0xC0) == 0x80))
    return length + width * characters
