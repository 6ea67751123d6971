"""Safetensors files as the reference implementation and our own reader take them."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.safetensors import SafetensorsFile
from pytest_aprqa.formats.safetensors_writer import write_safetensors, write_safetensors_file
from pytest_aprqa.formats.tensor import Tensor, tensors_of

if TYPE_CHECKING:
    from pathlib import Path

VIEWS = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I8": "<i1", "U8": "<u1"}

GOLDEN = (
    b"\x90\x00\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"format":"pt"},'
    b'"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}    '
    b"\x80\x3f\x00\xc0"
    b"\x00\x00\x00\x3f"
)


def tensor(name: str, values: Any, encoding: str = "F32") -> Tensor:
    array = np.asarray(values, VIEWS[encoding])
    return Tensor(name, encoding, array.shape, lambda: array.reshape(-1).view(np.uint8))


def golden_tensors() -> list[Tensor]:
    one = Tensor("b", "BF16", (1, 2), lambda: np.array([0x80, 0x3F, 0x00, 0xC0], np.uint8))
    return [one, tensor("a", 0.5)]


def test_golden_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors_file(path, golden_tensors(), metadata={"format": "pt"})
    assert path.read_bytes() == GOLDEN
    assert SafetensorsFile.open(path).raw("a") == 0.5
    with safe_open(path, "pt") as file:
        assert file.get_tensor("b").tolist() == [[1, -2]]


def test_every_plain_encoding_is_read_by_the_reference(tmp_path: Path) -> None:
    arrays = {view: np.arange(6).reshape(2, 3).astype(view) for view in VIEWS.values()}
    tensors = [tensor(name, arrays[view], name) for name, view in VIEWS.items()]
    tensors.append(tensor("empty", np.zeros((0, 4))))
    write_safetensors(tmp_path, tensors, metadata={"format": "np", "author": "ä"})
    loaded = load_file(tmp_path / "model.safetensors")
    assert list(SafetensorsFile.open(tmp_path / "model.safetensors").tensors) == [
        tensor.name for tensor in tensors
    ]
    for name, view in VIEWS.items():
        assert loaded[name].dtype == np.dtype(view)
        assert np.array_equal(loaded[name], arrays[view])
    assert loaded["empty"].shape == (0, 4)
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "np", "author": "ä"}
    assert not (tmp_path / "model.safetensors.index.json").exists()


def test_same_bytes_as_the_reference(tmp_path: Path) -> None:
    arrays = {"aa": np.arange(3, dtype=np.float32), "b": np.ones((2, 2), np.float32)}
    save_file(arrays, tmp_path / "reference.safetensors", metadata={"format": "np"})
    source = SafetensorsFile.open(tmp_path / "reference.safetensors")
    write_safetensors_file(tmp_path / "ours", tensors_of(source), metadata=source.metadata)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "reference.safetensors").read_bytes()


def test_shards_and_their_index(tmp_path: Path) -> None:
    tensors = [
        tensor(name, np.full(size, size)) for name, size in zip("dcba", (2, 2, 9, 1), strict=True)
    ]
    seen: list[tuple[str, int, int]] = []
    write_safetensors(
        tmp_path, tensors, metadata={}, shard_bytes=16, progress=lambda *told: seen.append(told)
    )
    one, two, three = (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"total_size": 56},
        "weight_map": {"a": three, "b": two, "c": one, "d": one},
    }
    assert seen == [("d", 8, 56), ("c", 16, 56), ("b", 52, 56), ("a", 56, 56)]
    checkpoint = open_huggingface(tmp_path)
    assert {name: checkpoint.raw(name).tolist() for name in "abcd"} == {
        "a": [1],
        "b": [9] * 9,
        "c": [2, 2],
        "d": [2, 2],
    }


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name, metadata in (("1", {"a": "x", "b": "y"}), ("2", {"b": "y", "a": "x"})):
        write_safetensors_file(tmp_path / name, golden_tensors(), metadata=metadata)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("encoding", ["Q8_0", "Q4_K", "APR_Q8", "APR_Q4"])
def test_quantized_blocks_are_refused(tmp_path: Path, encoding: str) -> None:
    blocks = Tensor("w", encoding, (1, 256), lambda: np.zeros(0, np.uint8))
    with pytest.raises(
        CheckpointError,
        match=f"tensor 'w': safetensors has no {encoding}; decode it to F32, F16 or BF16",
    ):
        write_safetensors(tmp_path, [blocks], metadata={})
    assert not list(tmp_path.iterdir())


def test_wrong_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tensor 'a' is given twice; expected each name once"):
        write_safetensors(tmp_path, [tensor("a", 1), tensor("a", 2)], metadata={})
    with pytest.raises(CheckpointError, match="'a\\\\n': no name for a tensor"):
        write_safetensors(tmp_path, [tensor("a\n", 1)], metadata={})
    with pytest.raises(CheckpointError, match="'a': 33 dimensions; expected at most 32"):
        write_safetensors(tmp_path, [Tensor("a", "F32", (1,) * 33, bytearray)], metadata={})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    closed: list[bool] = []
    short = Tensor(
        "a", "F32", (2,), lambda: np.zeros(7, np.uint8), done=lambda: closed.append(True)
    )
    with pytest.raises(CheckpointError, match=r"'a': 7 bytes; expected 8 for F32 \[2\]"):
        write_safetensors(tmp_path, [short], metadata={})
    assert closed == [True]


def test_one_tensor_in_memory_at_a_time(tmp_path: Path) -> None:
    live: list[str] = []

    def one(name: str) -> Tensor:
        def read() -> np.ndarray[Any, Any]:
            live.append(name)
            return np.zeros(1 << 20, np.uint8)

        return Tensor(name, "U8", (1 << 20,), read, done=live.clear)

    seen: list[int] = []
    tracemalloc.start()
    try:
        write_safetensors(
            tmp_path,
            [one(str(number)) for number in range(20)],
            metadata={},
            progress=lambda *told: seen.append(len(live)),
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == [0] * 20
    assert peak < 3 << 20
