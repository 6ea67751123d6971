"""APR files from the writer to the reader: golden bytes, every encoding, and what is refused."""

from __future__ import annotations

import json
import math
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.apr_file import AprFile, verify_footer
from pytest_aprqa.formats.apr_header import CODES, HEADER_BYTES
from pytest_aprqa.formats.apr_writer import compact_json, write_apr, write_apr_container
from pytest_aprqa.formats.checkpoint import CHUNK_ELEMENTS, Checkpoint, CheckpointError
from pytest_aprqa.formats.encodings import decode, fits, nbytes_of
from pytest_aprqa.formats.tensor import Tensor, tensors_of
from tests.formats.apr_models import llama_metadata, llama_tensors, raw_tensor, tensor

GOLDEN = bytes.fromhex(
    "41505200" "0200" "0004" "02000000" "4000000000000000" "12000000"
    "8000000000000000" "c000000000000000" "ceb96fe8"
) + bytes(20) + (
    b'{"model_type":"t"}' + bytes(46)
    + bytes.fromhex(
        "0100" "61" "1e" "01" "0200000000000000" "0000000000000000" "0400000000000000"
        "0100" "62" "00" "00" "4000000000000000" "0400000000000000"
    ) + bytes(14)
    + bytes.fromhex("803f0040") + bytes(60)
    + bytes.fromhex("00000041") + bytes(60)
    + bytes.fromhex("1c9dca66")
)  # fmt: skip


def written(path: Path, tensors: list[Tensor], metadata: dict[str, Any] | None = None) -> AprFile:
    write_apr_container(path, compact_json(path, metadata or {"model_type": "t"}), tensors)
    return AprFile.open(path)


def test_golden_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.apr"
    written(path, [tensor("b", 8.0), tensor("a", [1, 2], "BF16")])
    data = path.read_bytes()
    assert data == GOLDEN, data.hex()


# aprender's tests pin the sizes of this file in both spellings of what is unset.
_UNSET = (
    *("description", "author", "source", "original_format", "quantization", "sharding"),
    *("chat_template", "chat_format", "special_tokens", "architecture", "hf_architecture"),
    *("hf_model_type", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "vocab_size"),
    *("intermediate_size", "max_position_embeddings", "rope_theta", "rope_type", "rms_norm_eps"),
    *("head_dim", "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
)


@pytest.mark.parametrize(("unset", "size"), [((), 516), (_UNSET, 1092)])
def test_sizes_of_aprenders_golden_files(tmp_path: Path, unset: tuple[str, ...], size: int) -> None:
    metadata = {
        **{"model_type": "linear_regression", "name": "golden-v2", "version": "0.0.0-golden"},
        **{"license": None, "data_source": None, "data_license": None},
        **{"created_at": "1700000000", "total_size": 0, "param_count": 8},
        **dict.fromkeys(unset),
    }
    weights = [1.0, 2.0, 0.5, -0.5, 4.0, -2.0, 0.25, 8.0]
    path = tmp_path / "m.apr"
    write_apr(
        path, metadata=metadata, tensors=[tensor("weights", weights), tensor("bias", [0.125])]
    )
    assert path.stat().st_size == size
    file = AprFile.open(path)
    assert [*file.tensors] == ["bias", "weights"]
    assert np.concatenate([*file.float32_chunks("weights")]).tolist() == weights


def test_model_comes_back(tmp_path: Path) -> None:
    path, told = tmp_path / "m.apr", list[tuple[str, int, int]]()
    metadata, tensors = llama_metadata(), llama_tensors()
    write_apr(path, metadata=metadata, tensors=tensors, progress=lambda *state: told.append(state))
    file = AprFile.open(path)
    view: Checkpoint = file
    assert view.format is Format.APR
    assert file.metadata == metadata
    assert [*file.tensors] == sorted(t.name for t in tensors)
    for one in tensors:
        info = file.tensors[one.name]
        assert (info.dtype, info.shape, info.nbytes) == (one.encoding, one.shape, one.nbytes)
        assert file.bytes_of(one.name).tobytes() == one.read().tobytes()
        values = np.concatenate([*file.float32_chunks(one.name)])
        assert np.array_equal(values, one.values().reshape(-1), equal_nan=True)
        file.release(one.name)
        assert file.bytes_of(one.name).tobytes() == one.read().tobytes()
    assert [name for name, _, _ in told] == [*file.tensors]
    assert told[-1][1:] == (path.stat().st_size - 4, path.stat().st_size)
    assert file.header.flag_names == ("LAYOUT_ROW_MAJOR",)
    assert verify_footer(path)
    assert path.stat().st_size % 64 == 4
    starts = [file.header.data_offset, file.header.index_offset, *file._offsets.values()]
    assert not any(start % 64 for start in starts)


def test_written_again_from_the_file_it_is_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "1.apr", tmp_path / "2.apr"
    write_apr(one, metadata=llama_metadata(), tensors=llama_tensors())
    file = AprFile.open(one)
    write_apr(two, metadata=file.metadata, tensors=tensors_of(file))
    assert one.read_bytes() == two.read_bytes()
    write_apr(two, metadata=file.metadata, tensors=tensors_of(file)[::-1])
    assert one.read_bytes() == two.read_bytes()


names = st.text(min_size=1, max_size=20).filter(str.isprintable)
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(
    specs=st.dictionaries(
        names, st.tuples(st.sampled_from(sorted(CODES)), shapes, st.integers(0, 99)), max_size=5
    ),
    metadata=st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=5,
    ),
)
def test_any_file_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    specs: dict[str, tuple[str, tuple[int, ...], int]],
    metadata: dict[str, Any],
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.apr"
    tensors = []
    for name, (encoding, shape, seed) in specs.items():
        full = shape if fits(encoding, shape) else (*shape, 256)
        data = np.random.default_rng(seed).bytes(nbytes_of(encoding, full))
        tensors.append(raw_tensor(name, encoding, full, data))
    text = compact_json(path, metadata)
    write_apr_container(path, text, tensors)
    file = AprFile.open(path)
    assert file.metadata == json.loads(text)
    assert {n: (i.dtype, i.shape) for n, i in file.tensors.items()} == {
        t.name: (t.encoding, t.shape) for t in tensors
    }
    for one in tensors:
        assert file.bytes_of(one.name).tobytes() == one.read().tobytes()
        with np.errstate(all="ignore"):
            got = np.concatenate([np.empty(0, np.float32), *file.float32_chunks(one.name)])
            assert np.array_equal(got, one.values().reshape(-1), equal_nan=True)
    assert verify_footer(path)


@pytest.mark.parametrize("encoding", ["Q4_K", "Q6_K"])
@pytest.mark.parametrize("shape", [(3, 300), (2, 2, 300), (2, CHUNK_ELEMENTS + 10), (1, 40)])
def test_rows_that_are_no_whole_blocks(
    tmp_path: Path, encoding: str, shape: tuple[int, ...]
) -> None:
    rows, blocks = math.prod(shape[:-1]), -(-shape[-1] // 256)
    data = np.random.default_rng(1).integers(0, 40, rows * blocks * 256, np.uint8)
    data = data[: nbytes_of(encoding, (rows, blocks * 256))]
    path = tmp_path / "m.apr"
    file = patched_shape(path, encoding, (rows, blocks * 256), shape, data)
    expected = decode(encoding, data, (rows, blocks * 256))[:, : shape[-1]].reshape(-1)
    assert np.array_equal(np.concatenate([*file.float32_chunks("x")]), expected)
    flat = -(-math.prod(shape) // 256) * 256
    data = data[: nbytes_of(encoding, (flat,))]
    if flat == rows * blocks * 256:
        return
    file = patched_shape(path, encoding, (flat,), shape, data)
    expected = decode(encoding, data, (flat,))[: math.prod(shape)]
    assert np.array_equal(np.concatenate([*file.float32_chunks("x")]), expected)


def patched_shape(
    path: Path, encoding: str, stored: tuple[int, ...], shape: tuple[int, ...], data: Any
) -> AprFile:
    """A file whose tensor has the bytes of one shape and says that it has another."""

    class Padded(Tensor):
        @property
        def nbytes(self) -> int:
            return nbytes_of(encoding, stored)

    return written(path, [Padded("x", encoding, shape, lambda: data)])


def test_rows_that_may_be_padded_or_not(tmp_path: Path) -> None:
    data = np.zeros(288, np.uint8)
    file = patched_shape(tmp_path / "m.apr", "Q4_K", (512,), (2, 200), data)
    assert file.bytes_of("x").size == 288
    with pytest.raises(CheckpointError, match="rows of 200 values in Q4_K may or may not"):
        list(file.float32_chunks("x"))


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    broken = Tensor("z", "F32", (1,), interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_apr_container(tmp_path / "m.apr", b"{}", [tensor("a", 1.0), broken])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (np.zeros(3, np.uint8), "3 values of uint8"),
        (np.zeros(8, np.float32), "8 values of float32"),
    ],
)
def test_tensor_that_is_not_what_it_promised(tmp_path: Path, data: Any, told: str) -> None:
    with pytest.raises(CheckpointError, match=rf"x: {told} .* expected 8 bytes of F32 \[2\]"):
        write_apr_container(tmp_path / "m.apr", b"{}", [Tensor("x", "F32", (2,), lambda: data)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, *args: Any, **more: Any) -> Any:
        return opened(Path("/dev/full") if "draft" in path.name else path, *args, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(CheckpointError, match=r"m\.apr: cannot be written: No space left"):
        write_apr_container(tmp_path / "m.apr", b"{}", [tensor("x", np.zeros(99))])
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"a": math.nan}, "Out of range float values"),
        ({"a": "\ud800"}, "surrogates not allowed"),
        ({"a": {1, 2}}, "not JSON serializable"),
    ],
)
def test_metadata_that_are_no_json(tmp_path: Path, metadata: Any, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        compact_json(tmp_path / "m.apr", metadata)


def test_rules_are_enforced_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.apr"
    metadata = llama_metadata(n_embd=256, rope_type=None)
    with pytest.raises(CheckpointError) as caught:
        write_apr(path, metadata=metadata, tensors=llama_tensors()[1:2])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert not path.exists()


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    count, size = 16, 1 << 20
    tensors = [
        Tensor(f"t{n:02}", "F32", (size // 4,), lambda: np.zeros(size, np.uint8))
        for n in range(count)
    ]
    tracemalloc.start()
    try:
        write_apr_container(tmp_path / "m.apr", b"{}", tensors)
        assert tracemalloc.get_traced_memory()[1] < 3 * size
    finally:
        tracemalloc.stop()
    assert (tmp_path / "m.apr").stat().st_size > count * size > HEADER_BYTES
