"""The safetensors reader: right on good files, one clear error on each kind of bad one."""

from __future__ import annotations

import json
import random
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.safetensors import DTYPE_BITS, SafetensorsFile
from pytest_aprqa.formats.tensor import tensors_of

if TYPE_CHECKING:
    from pathlib import Path


def entry(dtype: str = "U8", shape: Any = (4,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(path: Path, header: bytes | dict[str, Any], data: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


GOOD = {
    "__metadata__": {"format": "pt"},
    "b": entry("F32", [2, 3], [4, 28]),
    "a": entry("BF16", [2], [0, 4]),
    "none": entry("F16", [0, 7], [28, 28]),
    "scalar": entry("I64", [], [28, 36]),
}
GOOD_DATA = (
    struct.pack("<2H", 0x3F80, 0xC000) + np.arange(6, dtype="<f4").tobytes() + struct.pack("<q", -5)
)


def test_good_file(tmp_path: Path) -> None:
    file = SafetensorsFile.open(write(tmp_path / "m.safetensors", GOOD, GOOD_DATA))
    assert list(file.tensors) == ["a", "b", "none", "scalar"]
    assert file.metadata == {"format": "pt"}
    info = file.tensors["b"]
    assert (info.dtype, info.shape, info.nbytes, info.file) == ("F32", (2, 3), 24, file.path)
    assert file.raw("a").tolist() == [0x3F80, 0xC000]
    assert [chunk.tolist() for chunk in file.float32_chunks("a")] == [[1.0, -2.0]]
    assert file.raw("b").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert list(file.float32_chunks("none")) == []
    assert file.raw("scalar") == -5
    assert not file.raw("b").flags.writeable


def test_unknown_tensor_is_refused(tmp_path: Path) -> None:
    file = SafetensorsFile.open(write(tmp_path / "m.safetensors", GOOD, GOOD_DATA))
    with pytest.raises(CheckpointError, match="there is no tensor 'c'"):
        file.raw("c")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int8", "bool"])
def test_agrees_with_the_reference_library(tmp_path: Path, dtype: str) -> None:
    import torch
    from safetensors.torch import save_file

    values = (torch.arange(60).reshape(3, 20) - 30).to(getattr(torch, dtype))
    save_file({"x": values, "y": values[:1].clone()}, tmp_path / "m.safetensors")
    file = SafetensorsFile.open(tmp_path / "m.safetensors")
    read = np.concatenate(list(file.float32_chunks("x"))).reshape(file.tensors["x"].shape)
    assert np.array_equal(read, values.to(torch.float32).numpy())


def test_tensors_of_every_dtype_are_on_their_way(tmp_path: Path) -> None:
    for dtype, bits in DTYPE_BITS.items():
        data = bytes(range(bits))
        path = write(tmp_path / "m", {"x": entry(dtype, [2, 4], [0, bits])}, data)
        (tensor,) = tensors_of(SafetensorsFile.open(path))
        assert (tensor.encoding, tensor.nbytes, tensor.read().tobytes()) == (dtype, bits, data)


def test_values_without_float32_are_told_with_the_tensor(tmp_path: Path) -> None:
    path = write(tmp_path / "m", {"x": entry("C64", [1], [0, 8])}, bytes(8))
    with pytest.raises(CheckpointError, match="m: tensor x: C64 cannot be read as float32"):
        list(SafetensorsFile.open(path).float32_chunks("x"))


def test_a_header_of_many_tensors_is_read(tmp_path: Path) -> None:
    names = (f"model.layers.{n // 900}.mlp.experts.{n}.down_proj.weight" for n in range(40_000))
    header = {name: entry("BF16", [0, 4096], [0, 0]) for name in names}
    assert len(SafetensorsFile.open(write(tmp_path / "m", header)).tensors) == 40_000


def test_every_dtype_is_read(tmp_path: Path) -> None:
    for dtype, bits in DTYPE_BITS.items():
        header = {"x": entry(dtype, [8], [0, bits])}
        file = SafetensorsFile.open(write(tmp_path / "m", header, bytes(bits)))
        assert file.raw("x").nbytes == bits


@pytest.mark.parametrize(
    ("header", "data", "expected"),
    [
        (b"", b"", r"the header begins with b''; expected \{"),
        (b"[1]", b"", r"the header begins with b'\['; expected \{"),
        (b"{}x", b"", "header: not JSON"),
        (b'{"a": "\xff"}', b"", "header: not UTF-8 at byte 7"),
        (b'{"a":' + b"[" * 100_000, b"", "header: not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", b"", "header: not JSON"),
        (b'{"a": 1, "a": 2}', b"", "key 'a' occurs twice; expected it once"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__ is no object of texts"),
        ({"__metadata__": []}, b"", "__metadata__ is no object of texts"),
        ({"a": 7}, b"", "tensor 'a': expected exactly dtype, shape and data_offsets"),
        ({"a": entry() | {"more": 1}}, b"1234", "tensor 'a': expected exactly dtype"),
        ({"a\n": entry()}, b"1234", "the name has unprintable characters"),
        ({"a\ud800": entry()}, b"1234", "header: half a surrogate pair at byte 3; expected"),
        (b'{"a":NaN}', b"", "header: NaN is no number of JSON's; expected a finite"),
        (b'{"a":' + b"[]," * 3_000_000 + b"0}", b"", "9000007 bytes of JSON would take about 3840"),
        ({"a": entry("F5")}, b"1234", "tensor 'a': unknown dtype 'F5'; expected one of F4"),
        ({"a": entry(dtype=[1])}, b"1234", "unknown dtype"),  # type: ignore[arg-type]
        ({"a": entry(shape=[-4])}, b"1234", r"shape \[-4\]; expected at most 32 non-negative"),
        ({"a": entry(shape=[4.0])}, b"1234", r"shape \[4.0\]; expected"),
        ({"a": entry(shape=[True])}, b"1234", r"shape \[True\]; expected"),
        ({"a": entry(shape="4")}, b"1234", "shape '4'; expected"),
        ({"a": entry(shape=[1] * 33)}, b"1", "expected at most 32 non-negative integers"),
        ({"a": entry(shape=[2**62, 4])}, b"1234", "overflows 63 bits"),
        ({"a": entry(shape=[2**62, 4, 0])}, b"1234", "overflows 63 bits"),
        ({"a": entry(shape=[2**64])}, b"1234", "expected at most 32 non-negative integers"),
        ({"a": entry(offsets=[4, 0])}, b"1234", r"data_offsets \[4, 0\]; expected \[begin, end\]"),
        ({"a": entry(offsets=[0])}, b"1234", r"data_offsets \[0\]"),
        ({"a": entry(offsets=[0, 3])}, b"123", r"3 bytes; expected 4 for U8 \[4\]"),
        ({"a": entry("F4", [3], [0, 1])}, b"1", r"1 bytes; expected 1.5 for F4 \[3\]"),
        ({"a": entry(offsets=[1, 5])}, b"12345", "begins at byte 1 after a hole; expected 0"),
        (
            {"a": entry(), "b": entry(offsets=[3, 7])},
            b"1234567",
            "tensor b begins at byte 3, inside of the tensor before it; expected 4",
        ),
        ({"a": entry(), "b": entry()}, b"1234", "inside of the tensor before it"),
        ({"a": entry()}, b"123", "ends at byte 4, but only 3 bytes follow the header"),
        ({"a": entry()}, b"12345", "1 bytes follow the last tensor; expected none"),
    ],
)
def test_bad_file(
    tmp_path: Path, header: bytes | dict[str, Any], data: bytes, expected: str
) -> None:
    path = write(tmp_path / "m.safetensors", header, data)
    with pytest.raises(CheckpointError, match=expected) as caught:
        SafetensorsFile.open(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_shorter_than_its_length(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{len(content)} bytes; expected at least 8"):
        SafetensorsFile.open(tmp_path / "m")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        SafetensorsFile.open(tmp_path / "m")


@pytest.mark.parametrize("length", [2**60, 2**63, 2**64 - 1, 1_000_000])
def test_claimed_length_is_not_allocated(tmp_path: Path, length: int) -> None:
    (tmp_path / "m").write_bytes(struct.pack("<Q", length) + b"{}")
    tracemalloc.start()
    try:
        with pytest.raises(
            CheckpointError, match=f"the header claims {length} bytes, but 2 follow"
        ):
            SafetensorsFile.open(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_header_above_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "m").open("wb") as stream:  # a sparse file of 200 MB
        stream.write(struct.pack("<Q", 150_000_000))
        stream.truncate(200_000_000)
    with pytest.raises(CheckpointError, match="expected at most 100000000"):
        SafetensorsFile.open(tmp_path / "m")


def mutated(good: bytes, rng: random.Random) -> bytes:
    """A good file with one to four accidents."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data)) if data else 0
        match rng.randrange(7):
            case 0 if data:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
            case 2:
                data[:8] = struct.pack("<Q", rng.choice([0, 1, 2**60, 2**64 - 1, len(data)]))
            case 3:
                data[place:place] = rng.choice([b"\xff", b"\xc3", b"\x00", b'"', b"{", b"9" * 30])
            case 4:
                data[place:place] = data[place : place + rng.randrange(60)]
            case 5:
                start = data.find(b"[", place)
                data[start + 1 : start + 2] = rng.choice([b"-1", b"1e9", b"18446744073709551616"])
            case _:
                del data[place : place + rng.randrange(4)]
    return bytes(data)


def test_mutations_are_read_or_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", GOOD, GOOD_DATA)
    good, rng = path.read_bytes(), random.Random(20)
    read, refused = 0, []
    began = time.process_time()
    for _ in range(2500):
        path.write_bytes(mutated(good, rng))
        try:
            file = SafetensorsFile.open(path)
        except CheckpointError as error:
            refused.append(str(error))
        else:
            assert sum(info.nbytes for info in file.tensors.values()) <= path.stat().st_size
            for name in file.tensors:
                file.raw(name).tobytes()
            read += 1
    assert time.process_time() - began < 5
    assert read > 20
    assert len(refused) > 2000
    assert not any("\n" in message for message in refused)


@given(header=st.binary(max_size=200), data=st.binary(max_size=20))
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, data: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.safetensors", header, data)
    try:
        SafetensorsFile.open(path)
    except CheckpointError:
        return
    assert data == b""


@given(
    numbers=st.lists(
        st.one_of(st.integers(), st.floats(), st.booleans(), st.none()), min_size=2, max_size=4
    ),
    dtype=st.sampled_from(sorted(DTYPE_BITS)),
)
def test_any_numbers_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[Any], dtype: str
) -> None:
    header = {"x": entry(dtype, numbers[2:], numbers[:2])}
    path = write(tmp_path_factory.getbasetemp() / "any.safetensors", header, bytes(8))
    try:
        file = SafetensorsFile.open(path)
    except CheckpointError:
        return
    assert file.tensors["x"].nbytes == 8
