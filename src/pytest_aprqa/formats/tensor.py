"""A tensor on its way from one file to another: described now, its bytes made when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.encodings import decode, encode, encoding_of, nbytes_of

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.formats.checkpoint import Checkpoint

Progress = Callable[[str, int, int], None]
"""Told after each tensor written: its name, bytes written so far, bytes in all."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor whose bytes are made when they are asked for, and kept by nobody."""

    name: str
    encoding: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray[Any, Any]] = field(repr=False)
    """The bytes in this encoding, flat uint8; may be a view of a mapped file."""
    done: Callable[[], None] = field(default=lambda: None, repr=False)
    """To be called when the bytes are no longer needed: mapped pages are given back."""

    @property
    def nbytes(self) -> int:
        """Length of what `read` gives."""
        return nbytes_of(self.encoding, self.shape)

    def values(self) -> np.ndarray[Any, Any]:
        """The decoded values, float32 in `shape`."""
        return decode(self.encoding, self.read(), self.shape)

    def named(self, name: str) -> Tensor:
        """The same tensor under another name."""
        return replace(self, name=name)

    def as_encoding(self, encoding: str) -> Tensor:
        """The tensor in another encoding that this package writes; itself when it is in it."""
        if encoding == self.encoding:
            return self
        encoding_of(encoding)
        return replace(self, encoding=encoding, read=lambda: encode(encoding, self.values()))

    def derived(
        self,
        shape: tuple[int, ...],
        change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]],
        *,
        encoding: str = "F32",
    ) -> Tensor:
        """A tensor of changed values: decoded to float32, changed, encoded again."""
        return replace(
            self,
            encoding=encoding,
            shape=shape,
            read=lambda: encode(encoding, change(self.values())),
        )


def tensors_of(checkpoint: Checkpoint) -> tuple[Tensor, ...]:
    """The checkpoint's tensors under its own names, read where they are mapped."""

    def one(name: str) -> Tensor:
        info = checkpoint.tensors[name]
        encoding_of(info.dtype)
        return Tensor(
            name,
            info.dtype,
            info.shape,
            lambda: checkpoint.bytes_of(name),
            lambda: checkpoint.release(name),
        )

    return tuple(one(name) for name in checkpoint.tensors)
