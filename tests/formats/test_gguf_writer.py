"""GGUF files byte for byte, with exact types, one tensor in memory at a time."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_field import GgufField, array, string, uint32
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.tensor import Tensor, tensors_of

if TYPE_CHECKING:
    from pathlib import Path

ARCH = {"general.architecture": string("x")}
RAW = np.arange(8, dtype=np.uint8)
W = Tensor("w", "F16", (2, 2), lambda: RAW)

GOLDEN_HEAD = (
    b"GGUF\3\0\0\0" + struct.pack("<QQ", 1, 2)
    + struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 1) + b"x"
    + struct.pack("<Q", 1) + b"n" + struct.pack("<IIQ", 9, 2, 2) + b"\1\0\2\0"
    + struct.pack("<Q", 1) + b"w" + struct.pack("<IQQIQ", 2, 2, 2, 1, 0)
)  # fmt: skip


def test_golden_bytes(tmp_path: Path) -> None:
    fields = {"n": array("uint16", [1, 2]), **ARCH}
    for name in ("1", "2"):
        write_gguf(tmp_path / name, fields=fields, tensors=[W])
    expected = GOLDEN_HEAD + bytes(-len(GOLDEN_HEAD) % 32) + bytes(range(8)) + bytes(24)
    assert (tmp_path / "1").read_bytes() == expected
    assert (tmp_path / "2").read_bytes() == expected
    file = GgufFile.open(tmp_path / "1")
    write_gguf(tmp_path / "3", fields=file.fields, tensors=tensors_of(file))
    assert (tmp_path / "3").read_bytes() == expected


FIELDS = {
    "no architecture": ({"a": uint32(1)}, "general.architecture is missing; expected a text"),
    "range": (ARCH | {"a": uint32(-1)}, "a key's value does not fit its type"),
    "type": (ARCH | {"a": GgufField("int", 1)}, "key 'a': unknown type 'int'"),
    "nested": (ARCH | {"a": array("array", [1])}, "key 'a': array of 'array'; llama.cpp takes"),
    "empty": (ARCH | {"a": array("uint8", [])}, "key 'a': an empty array; leave the key out"),
    "items": (ARCH | {"a": GgufField("uint8", 1, "uint8")}, "key 'a': uint8 has no items"),
    "key": (ARCH | {"": uint32(1)}, "key '': no name for a key; expected printable text"),
    "alignment": (ARCH | {"general.alignment": uint32(20)}, "general.alignment is uint32 20; exp"),
}


@pytest.mark.parametrize(("fields", "message"), FIELDS.values(), ids=FIELDS)
def test_wrong_fields_are_refused(
    tmp_path: Path, fields: dict[str, GgufField], message: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        write_gguf(tmp_path / "m.gguf", fields=fields, tensors=[])
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


TENSORS = {
    "twice": ([W, W], "tensor 'w' is given twice; expected each name once"),
    "name": ([W.named("x" * 64)], "no name for a tensor; llama.cpp takes 1 to 63 bytes"),
    "encoding": ([Tensor("w", "APR_Q8", (4,), lambda: RAW)], "GGUF has no APR_Q8; decode it"),
    "rank": ([Tensor("w", "F32", (1,) * 5, lambda: RAW)], "5 dimensions; expected at most 4"),
    "bytes": ([Tensor("w", "F32", (3,), lambda: RAW)], "8 bytes; expected 12 for F32 [3]"),
}


@pytest.mark.parametrize(("tensors", "message"), TENSORS.values(), ids=TENSORS)
def test_wrong_tensors_are_refused(tmp_path: Path, tensors: list[Tensor], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        write_gguf(tmp_path / "m.gguf", fields=ARCH, tensors=tensors)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    live: list[str] = []
    told: list[tuple[str, int, int, int]] = []

    def one(name: str) -> Tensor:
        def read() -> np.ndarray[Any, Any]:
            live.append(name)
            return RAW

        return Tensor(name, "F16", (4,), read, done=live.clear)

    def progress(name: str, written: int, total: int) -> None:
        told.append((name, written, total, len(live)))

    write_gguf(
        tmp_path / "m", fields=ARCH, tensors=[one(name) for name in "abc"], progress=progress
    )
    assert told == [("a", 8, 24, 0), ("b", 16, 24, 0), ("c", 24, 24, 0)]
