"""A Hugging Face directory as a checkpoint, and the digests of its files."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.checkpoint import (
    CHUNK_ELEMENTS,
    Checkpoint,
    CheckpointError,
    parse_json_object,
    read_json_object,
)
from pytest_aprqa.formats.digest import file_hashes
from pytest_aprqa.formats.huggingface import open_huggingface, survey_huggingface

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"a": np.ones(3, np.float32)}, tmp_path / ONE, metadata={"format": "np"})
    save_file({"b": np.zeros((2, 2), np.float16)}, tmp_path / TWO)
    write_index(tmp_path, {"a": ONE, "b": TWO})
    return tmp_path


def write_index(directory: Path, weight_map: Any) -> None:
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def problem(directory: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_huggingface(directory)
    return str(caught.value)


def test_shards_are_one_checkpoint(sharded: Path) -> None:
    checkpoint = open_huggingface(sharded)
    view: Checkpoint = checkpoint
    assert view.format is Format.SAFETENSORS
    assert {name: info.file.name for name, info in checkpoint.tensors.items()} == {
        "a": ONE,
        "b": TWO,
    }
    assert checkpoint.metadata == {"format": "np"}
    assert checkpoint.raw("b").shape == (2, 2)
    with pytest.raises(CheckpointError, match="there is no tensor 'c'"):
        checkpoint.raw("c")


def test_large_tensors_come_in_bounded_chunks(tmp_path: Path) -> None:
    values = np.arange(2 * CHUNK_ELEMENTS + 5, dtype=np.float32)
    save_file({"x": values}, tmp_path / "model.safetensors")
    chunks = list(open_huggingface(tmp_path).float32_chunks("x"))
    assert [chunk.size for chunk in chunks] == [CHUNK_ELEMENTS, CHUNK_ELEMENTS, 5]
    assert np.array_equal(np.concatenate(chunks), values)


def test_index_names_an_unknown_tensor(sharded: Path) -> None:
    write_index(sharded, {"a": ONE, "b": TWO, "c": TWO})
    assert problem(sharded).endswith(f"tensor c should be in {TWO}, but it is in no shard")


def test_index_names_the_wrong_shard(sharded: Path) -> None:
    write_index(sharded, {"a": TWO, "b": ONE})
    assert f"tensor a should be in {TWO}, but it is in {ONE}" in problem(sharded)


def test_index_misses_a_tensor(sharded: Path) -> None:
    save_file({"b": np.zeros(2), "c": np.zeros(2)}, sharded / TWO)
    assert problem(sharded).endswith(f"tensor c of {TWO} is not in the weight_map")


def test_index_misses_a_shard(sharded: Path) -> None:
    write_index(sharded, {"a": ONE})
    assert f"shard {TWO} lies beside the index, which does not name it" in problem(sharded)


def test_index_beside_a_single_file(sharded: Path) -> None:
    save_file({"a": np.zeros(2)}, sharded / "model.safetensors")
    assert "model.safetensors lies beside the index; expected one of them" in problem(sharded)


@pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, {"a": None}])
def test_index_without_a_map(sharded: Path, weight_map: Any) -> None:
    write_index(sharded, weight_map)
    assert "weight_map" in problem(sharded)


def test_every_problem_is_told(sharded: Path) -> None:
    (sharded / ONE).write_bytes(b"")
    (sharded / TWO).unlink()
    checkpoint, problems = survey_huggingface(sharded)
    assert len(problems) == 2
    assert not checkpoint.tensors


def test_link_out_of_the_directory(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2)}, tmp_path / "secret.safetensors")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    assert "is a link to" in problem(model)
    assert problem(model).endswith("outside of the model's directory")


def test_link_to_the_directory_itself(sharded: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sharded)
    assert len(open_huggingface(link).tensors) == 2


def test_json_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": "' + "x" * 100 + '"}')
    with pytest.raises(CheckpointError, match="109 bytes; expected JSON of at most 50 bytes"):
        read_json_object(path, max_bytes=50)
    assert read_json_object(path)["a"] == "x" * 100


def test_json_that_would_take_far_more_memory_than_its_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a":[' + "[]," * 1_000_000 + "0]}")
    tracemalloc.start()
    try:
        with pytest.raises(
            CheckpointError, match=r"config\.json: 3000009 bytes of JSON would take"
        ):
            read_json_object(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_vocabulary_as_large_as_published_ones_is_read() -> None:
    """260 000 words and 580 000 merges as pairs, the most there is, with words of usual length."""
    vocab = {f"token{n}": n for n in range(260_000)}
    merges = [[f"to{n}", f"ken{n}"] for n in range(580_000)]
    text = json.dumps({"model": {"vocab": vocab, "merges": merges}}, separators=(",", ":"))
    assert len(text) < 35_000_000
    assert len(parse_json_object(text.encode(), where="t")["model"]["merges"]) == 580_000


STRICT = [
    (b'{"a":1,"a":2}', "t: key 'a' occurs twice; expected it once"),
    (b'{"a":NaN}', "t: NaN is no number of JSON's; expected a finite"),
    (b'{"a":-Infinity}', "t: -Infinity is no number of JSON's; expected a finite"),
    (b'{"a":1e999}', "t: 1e999 is no number of JSON's; expected a finite"),
    (rb'{"a":"\ud800"}', "t: half a surrogate pair at byte 6; expected Unicode text"),
    (rb'{"a":"\\\uDC00\ud83d"}', "t: half a surrogate pair at byte 8; expected Unicode text"),
]


@pytest.mark.parametrize(("text", "told"), STRICT)
def test_what_other_readers_refuse_is_refused_where_they_read(text: bytes, told: str) -> None:
    assert "a" in parse_json_object(text, where="t")  # generation configs hold Infinity
    with pytest.raises(CheckpointError) as caught:
        parse_json_object(text, where="t", strict=True)
    assert str(caught.value) == told


def test_whole_pairs_and_escaped_backslashes_are_no_half_pairs() -> None:
    text = rb'{"a":"\ud83d\ude00 \\ud800","b":1.5,"c":-2e-3}'
    found = parse_json_object(text, where="t", strict=True)
    assert found == {"a": "\U0001f600 \\ud800", "b": 1.5, "c": -0.002}


def test_file_hashes(sharded: Path) -> None:
    (sharded / "config.json").write_text("{}")
    (sharded / "chat_template.jinja").write_text("")
    (sharded / "additional_chat_templates").mkdir()
    (sharded / "additional_chat_templates" / "tool.jinja").write_text("")
    (sharded / "README.md").write_text("not the model")
    hashes = file_hashes(sharded)
    assert list(hashes) == [
        "additional_chat_templates/tool.jinja",
        "chat_template.jinja",
        "config.json",
        ONE,
        TWO,
        "model.safetensors.index.json",
    ]
    assert hashes["config.json"] == hashlib.sha256(b"{}").hexdigest()
