"""The strict reader: healthy files as the gguf package reads them, damaged ones refused."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats import gguf_values
from pytest_aprqa.formats.checkpoint import Checkpoint, CheckpointError
from pytest_aprqa.formats.gguf_field import GgufField, array, boolean, float32, string, uint32
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_values import NUMBER_VIEWS, VALUE_TYPES
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.tensor import Tensor

U8, U32, F32, BOOL, STR, ARR = 0, 4, 6, 7, 8, 9
HUGE = 2**64 - 1


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + u32(kind) + value


def entry(name: str | bytes, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + u32(len(dims)) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


ARCH = key("general.architecture", STR, text("x"))


def gguf_bytes(
    keys: list[bytes], entries: list[bytes], data: bytes = b"", *, version: int = 3
) -> bytes:
    head = b"GGUF" + u32(version) + u64(len(entries)) + u64(len(keys))
    head += b"".join(keys) + b"".join(entries)
    return head + b"\0" * (-len(head) % 32) + data if entries else head


def healthy() -> bytes:
    keys = [ARCH, key("a", ARR, u32(STR) + u64(2) + text("é") + text("")), key("b", BOOL, b"\1")]
    entries = [entry("w", (32, 2), 8), entry("v", (3,), 0, 96)]
    return gguf_bytes(keys, entries, bytes(range(68)) + b"\0" * 28 + struct.pack("<3f", 1, 2, 3))


def opened(tmp_path: Path, data: bytes, name: str = "m.gguf") -> GgufFile:
    path = tmp_path / name
    path.write_bytes(data)
    return GgufFile.open(path)


def test_healthy_file(tmp_path: Path) -> None:
    file = opened(tmp_path, healthy())
    view: Checkpoint = file
    assert view.format is Format.GGUF
    assert dict(file.fields) == {
        "general.architecture": string("x"),
        "a": array("string", ["é", ""]),
        "b": boolean(True),
    }
    assert view.metadata["a"] == ("é", "")
    assert {name: (t.dtype, t.shape, t.nbytes) for name, t in view.tensors.items()} == {
        "w": ("Q8_0", (2, 32), 68),
        "v": ("F32", (3,), 12),
    }
    assert view.bytes_of("w").tobytes() == bytes(range(68))
    assert np.concatenate(list(view.float32_chunks("v"))).tolist() == [1, 2, 3]
    view.release("v")
    assert np.concatenate(list(view.float32_chunks("v"))).tolist() == [1, 2, 3]
    with pytest.raises(CheckpointError, match="there is no tensor 'q'"):
        view.bytes_of("q")
    assert opened(tmp_path, gguf_bytes([ARCH], [], version=2)).version == 2
    assert opened(tmp_path, gguf_bytes([], [entry("e", (0, 4))])).bytes_of("e").size == 0


def test_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    fields: dict[str, GgufField] = {"general.architecture": string("x")}
    for kind in NUMBER_VIEWS:
        value: Any = True if kind == "bool" else 1
        fields[kind] = GgufField(kind, value)
        fields[f"{kind}s"] = array(kind, [value, value])
    fields["texts"] = array("string", ["a", "bc", "ü"])
    data = np.arange(24, dtype=np.float32)
    raw = data.view(np.uint8)
    tensors = [Tensor("t", "F32", (2, 3, 4), lambda: raw), Tensor("u", "F32", (), lambda: raw[:4])]
    path = tmp_path / "m.gguf"
    write_gguf(path, fields=fields, tensors=tensors)
    ours, theirs = GgufFile.open(path), gguf.GGUFReader(path)
    assert dict(ours.fields) == fields
    for name, field in ours.fields.items():
        found = theirs.fields[name].contents()
        assert (list(field.value) if field.type == "array" else field.value) == found
        assert theirs.fields[name].types[0].name.lower() == field.type
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.shape == tuple(int(dim) for dim in tensor.shape)[::-1]
        assert ours.bytes_of(tensor.name).tobytes() == tensor.data.tobytes()
    names = {kind.name.lower(): int(kind) for kind in gguf.GGUFValueType}
    assert names == {name: number for number, name in VALUE_TYPES.items()}


def nested(depth: int) -> bytes:
    return (u32(ARR) + u64(1)) * (depth - 1) + u32(U8) + u64(1) + b"\7"


def test_nested_arrays(tmp_path: Path) -> None:
    assert opened(tmp_path, gguf_bytes([key("n", ARR, nested(2))], [])).metadata["n"] == ((7,),)
    with pytest.raises(CheckpointError, match="key 'n' nests arrays deeper than 4 levels"):
        opened(tmp_path, gguf_bytes([key("n", ARR, nested(5))], []))


W = entry("w", (4,))
DEFECTS = {
    "empty": (b"", "the file is empty; expected a GGUF file"),
    "magic": (b"GGUX" + healthy()[4:], "begins with b'GGUX'; a GGUF file begins with b'GGUF'"),
    "ggml": (b"tjgg" + healthy()[4:], "a GGML file from before GGUF"),
    "short": (b"GGUF\3\0\0\0", "8 bytes; a GGUF header has at least 24"),
    "v1": (gguf_bytes([], [], version=1), "GGUF version 1, which no current program reads"),
    "v4": (gguf_bytes([], [], version=4), "GGUF version 4; expected 2 or 3"),
    "big": (gguf_bytes([], [], version=3 << 24), "GGUF version 3 in big-endian byte order"),
    "keys": (b"GGUF" + u32(3) + u64(0) + u64(HUGE), f"claims {HUGE} keys, but 0 bytes follow"),
    "tensors": (b"GGUF" + u32(3) + u64(HUGE) + u64(0), f"claims {HUGE} tensors, but 0 bytes"),
    "key length": (gguf_bytes([u64(HUGE) + b"x" * 20], []), f"claims {HUGE} bytes; expected at mo"),
    "key UTF-8": (gguf_bytes([key(b"\xff", U8, b"\1")], []), "a key's name is not UTF-8 at byte"),
    "key empty": (gguf_bytes([key("", U8, b"\1")], []), "a key is named ''; expected printable"),
    "key twice": (gguf_bytes([ARCH, ARCH], []), "key 'general.architecture' occurs twice"),
    "value type": (gguf_bytes([key("a", 13, b"\1")], []), "key 'a' has the unknown value type 13"),
    "cut number": (gguf_bytes([key("a", U32, b"\1")], []), "key 'a' needs 4 bytes at byte 37, but"),
    "bool": (gguf_bytes([key("a", BOOL, b"\2")], []), "key 'a' holds 2 as a bool; expected 0 or 1"),
    "text length": (gguf_bytes([key("a", STR, u64(HUGE))], []), f"key 'a' needs {HUGE} bytes"),
    "text UTF-8": (gguf_bytes([key("a", STR, text(b"\xc3"))], []), "key 'a' is not UTF-8 at byte"),
    "array length": (
        gguf_bytes([key("a", ARR, u32(U32) + u64(HUGE))], []),
        f"key 'a' claims {HUGE} items of type uint32, but 0 bytes follow",
    ),
    "array text": (
        gguf_bytes([key("a", ARR, u32(STR) + u64(1) + u64(9))], []),
        "item 0 of key 'a' needs 9 bytes",
    ),
    "array UTF-8": (
        gguf_bytes([key("a", ARR, u32(STR) + u64(2) + text("") + text(b"\xff"))], []),
        "item 1 of key 'a' is not UTF-8 at byte",
    ),
    "alignment": (
        gguf_bytes([key("general.alignment", U32, u32(48))], []),
        "general.alignment is uint32 48; expected a uint32 that is a power of two",
    ),
    "alignment 4": (gguf_bytes([key("general.alignment", U32, u32(4))], []), "uint32 4; expected"),
    "alignment 0": (gguf_bytes([key("general.alignment", U32, u32(0))], []), "uint32 0; expected"),
    "rank": (gguf_bytes([], [entry("w", (1,) * 5)], bytes(4)), "5 dimensions; expected at most 4"),
    "overflow": (gguf_bytes([], [entry("w", (2**40, 2**40))]), "overflows 63 bits"),
    "type": (gguf_bytes([], [entry("w", (4,), 4)], bytes(16)), "unknown tensor type 4; the file"),
    "row": (gguf_bytes([], [entry("w", (33,), 8)], bytes(68)), "Q8_0 takes rows of a multiple of"),
    "twice": (gguf_bytes([], [W, W], bytes(64)), "tensor 'w' occurs twice; expected it once"),
    "unaligned": (
        gguf_bytes([], [entry("w", (4,), 0, 8)], bytes(64)),
        "begins at byte 8 of the data; expected a multiple of 32",
    ),
    "overlap": (
        gguf_bytes([], [W, entry("v", (4,), 0, 0)], bytes(64)),
        "'v' begins at byte 0 of the data, inside of the tensors before it; expected 32",
    ),
    "hole": (gguf_bytes([], [entry("w", (4,), 0, 32)], bytes(64)), "after a hole; expected 0"),
    "cut data": (gguf_bytes([], [W], bytes(15)), "'w' ends at byte 80, but the file has 79"),
}


@pytest.mark.parametrize(("data", "message"), DEFECTS.values(), ids=DEFECTS)
def test_defects_are_told(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path, data)
    assert str(caught.value).startswith(str(tmp_path / "m.gguf"))
    assert message in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "no.gguf", tmp_path):
        with pytest.raises(CheckpointError, match="there is no such file; expected a GGUF file"):
            GgufFile.open(path)


def test_listed_but_not_decodable(tmp_path: Path) -> None:
    file = opened(tmp_path, gguf_bytes([], [entry("w", (256,), 15)], bytes(292)))
    assert file.tensors["w"].dtype == "Q8_K"
    with pytest.raises(CheckpointError, match=r"m\.gguf: tensor 'w': the values of Q8_K cannot be"):
        list(file.float32_chunks("w"))


def test_every_truncation_is_told(tmp_path: Path) -> None:
    data = healthy()
    for size in range(len(data)):
        with pytest.raises(CheckpointError):
            opened(tmp_path, data[:size])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutations_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    mutated = bytearray(healthy())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(mutated)
    problem = ""
    try:
        file = GgufFile.open(path)
        for name, info in file.tensors.items():
            values = sum(chunk.size for chunk in file.float32_chunks(name))
            assert values == np.prod(info.shape, dtype=np.int64)
    except CheckpointError as error:
        problem = str(error)
    assert not problem or problem.startswith(str(path))


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 000 texts of two bytes would take 3 MB with their slots; the file has 0.4 MB."""
    monkeypatch.setattr(gguf_values, "_SPARE_BYTES", 1_800_000)
    values = u32(STR) + u64(40_000) + text("ab") * 40_000
    data = gguf_bytes([key("a", ARR, values)], [])
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="takes more memory than the file's size and"):
            GgufFile.open(path)
        assert tracemalloc.get_traced_memory()[1] < len(data) + 2_000_000
    finally:
        tracemalloc.stop()


def test_vocabulary_is_read_fast(tmp_path: Path) -> None:
    count = 150_000
    values = u32(STR) + u64(count) + b"".join(text(f"token{i}") for i in range(count))
    (tmp_path / "m.gguf").write_bytes(gguf_bytes([key("a", ARR, values)], []))
    begin = time.process_time()
    file = GgufFile.open(tmp_path / "m.gguf")
    assert time.process_time() - begin < 1
    assert file.metadata["a"][149_999] == "token149999"


def part(number: int, name: str, *, count: int = 2, total: int = 2, arch: bytes = b"") -> bytes:
    keys = [
        arch,
        key("split.no", 2, struct.pack("<H", number)),
        key("split.count", 2, struct.pack("<H", count)),
        key("split.tensors.count", 5, struct.pack("<i", total)),
    ]
    return gguf_bytes([one for one in keys if one], [entry(name, (4,))], bytes(16))


def write_parts(tmp_path: Path, *parts: bytes) -> Path:
    for number, data in enumerate(parts, 1):
        (tmp_path / f"m-{number:05}-of-00002.gguf").write_bytes(data)
    return tmp_path / "m-00001-of-00002.gguf"


def test_split_files_are_joined(tmp_path: Path) -> None:
    first = write_parts(tmp_path, part(0, "w", arch=ARCH), part(1, "v"))
    for path in (first, tmp_path / "m-00002-of-00002.gguf"):
        file = GgufFile.open(path)
        assert file.path == first
        assert len(file.files) == 2
        assert {name: info.file.name[4:7] for name, info in file.tensors.items()} == {
            "w": "001",
            "v": "002",
        }
        assert dict(file.metadata) == {"general.architecture": "x"}
        assert file.bytes_of("v").tobytes() == bytes(16)


OTHER = key("general.architecture", STR, text("y"))
SPLITS = {
    "same tensor": ((part(0, "w"), part(1, "w")), "tensor 'w' is in m-00001-of-00002.gguf too"),
    "order": ((part(0, "w"), part(0, "v")), "expected part 2 of 2 with 2 tensors in all"),
    "count": ((part(0, "w"), part(1, "v", count=3)), "expected part 2 of 2"),
    "total": ((part(0, "w", total=3), part(1, "v", total=3)), "its parts hold 2 tensors; split.t"),
    "missing": ((part(0, "w"),), "m-00002-of-00002.gguf: this part is missing; expected all 2"),
    "model": ((part(0, "w", arch=ARCH), part(1, "v", arch=OTHER)), "general.architecture is not"),
    "name": ((part(1, "w"), part(1, "v")), "is part 2 of 2 by its keys; expected the name"),
    "number": ((part(2, "w"), part(1, "v")), "split.no is 2; expected less than split.count, 2"),
    "negative": ((part(0, "w", total=-1), part(1, "v")), "int32 -1; expected a number from 0 on"),
    "keys": (
        (gguf_bytes([key("split.count", U32, u32(2))], [W], bytes(16)),),
        "split.no is missing beside other split.* keys",
    ),
}


@pytest.mark.parametrize(("parts", "message"), SPLITS.values(), ids=SPLITS)
def test_wrong_splits_are_told(tmp_path: Path, parts: tuple[bytes, ...], message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        GgufFile.open(write_parts(tmp_path, *parts))
    assert message in str(caught.value)


def test_custom_alignment(tmp_path: Path) -> None:
    fields = {"general.architecture": string("x"), "general.alignment": uint32(64)}
    raw = np.arange(4, dtype=np.uint8)
    tensors = [Tensor(name, "F32", (1,), lambda: raw) for name in "ab"]
    write_gguf(tmp_path / "m.gguf", fields=fields | {"f": float32(0.5)}, tensors=tensors)
    file = GgufFile.open(tmp_path / "m.gguf")
    assert file.bytes_of("b").tobytes() == raw.tobytes()
    assert file.metadata["f"] == 0.5
