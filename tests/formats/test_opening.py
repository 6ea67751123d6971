"""Any model is opened by what is in it, and what is no model is named."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.apr_writer import write_apr_container
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.huggingface import HuggingFaceCheckpoint
from pytest_aprqa.formats.opening import format_of, open_checkpoint
from pytest_aprqa.formats.safetensors import SafetensorsFile
from tests.formats.apr_models import tensor, write
from tests.formats.mutations import apr_base, safetensors_base
from tests.formats.mutations_gguf import gguf_base


@pytest.mark.parametrize("name", ["model.bin", "model.gguf", "model.apr", "x.safetensors", "x"])
@pytest.mark.parametrize(
    ("base", "kind", "form"),
    [
        (safetensors_base, SafetensorsFile, Format.SAFETENSORS),
        (apr_base, AprFile, Format.APR),
        (gguf_base, GgufFile, Format.GGUF),
    ],
)
def test_a_file_under_any_name(
    tmp_path: Path, name: str, base: object, kind: type, form: Format
) -> None:
    assert callable(base)
    path = write(tmp_path / name, base().data)
    assert format_of(path) is form
    checkpoint = open_checkpoint(path)
    assert type(checkpoint) is kind
    assert checkpoint.format is form
    assert checkpoint.tensors


def test_a_directory(tmp_path: Path) -> None:
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    assert format_of(tmp_path) is Format.SAFETENSORS
    assert type(open_checkpoint(tmp_path)) is HuggingFaceCheckpoint


@pytest.mark.parametrize("start", [b"{", b"\x80\x02", b"APR\0", b"PK\x03\x04", b"version "])
def test_a_length_that_spells_another_format(tmp_path: Path, start: bytes) -> None:
    """A header of 640 bytes begins as a pickle does, one of 123 as JSON."""
    length = int.from_bytes(start.ljust(8, b"\0"), "little")
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path = tmp_path / "m"
    if length > 10**8:  # beyond the format's limit: cannot be one
        write(path, start.ljust(8, b"x") + header)
        with pytest.raises(CheckpointError):
            format_of(path)
        return
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", length) + header.ljust(length)[:length] + b"\1")
    if length >= len(header):
        assert [*open_checkpoint(path).tensors] == ["a"]
    assert format_of(path) is Format.SAFETENSORS


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02.")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("pytorch_model.bin", archive(), "a zip archive, as torch.save writes it; .* not opened"),
        ("m.pt", pickle.dumps({"a": [1]}, 2), "a Python pickle, .*; expected safetensors: save"),
        ("m.pt", pickle.dumps({"a": [1]}, 5), "a Python pickle"),
        ("model.safetensors.index.json", b"{}", "an index of shards; expected the directory"),
        ("config.json", b"{}", "a JSON text, no weights; expected the directory that holds it"),
        ("x", b'{"a": 1}', "a JSON text, no weights"),
        (
            "m.gguf",
            b"version https://git-lfs.github.com/spec/v1\n",
            "a Git LFS pointer, .* pull",
        ),
        ("m.bin", b"lmgg" + bytes(40), "a llama.cpp file from before GGUF; convert the model"),
        ("m.bin", b"", r"0 bytes, which begin with b''; expected a directory with safetensors"),
        ("m.bin", b"hello, world, hello", r"19 bytes, which begin with b'hello, world, he'"),
        (
            "m.bin",
            bytes(20),
            "expected a directory with safetensors, or a file that begins",
        ),
        ("m.safetensors", b"", "0 bytes; expected at least 8 for the header's length"),
        ("m.safetensors", b"hello, world", "the header claims .* cut short or no safetensors file"),
        ("m.apr", b"APR1" + bytes(9), "begins with b'APR1': an early layout"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = write(tmp_path / name, data)
    with pytest.raises(CheckpointError, match=expected) as caught:
        open_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        open_checkpoint(tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match=r"there is neither model\.safetensors nor"):
        open_checkpoint(tmp_path)


def test_one_shard_is_no_model(tmp_path: Path) -> None:
    content = save({"a": np.ones(2, np.float32)})
    shard = write(tmp_path / "model-00002-of-00003.safetensors", content)
    with pytest.raises(CheckpointError, match=r"shard 2 of 3; expected the directory .*index"):
        open_checkpoint(shard)
    only = write(tmp_path / "model-00001-of-00001.safetensors", content)
    assert [*open_checkpoint(only).tensors] == ["a"]


def test_an_apr_file_is_read_whatever_wrote_it(tmp_path: Path) -> None:
    write_apr_container(tmp_path / "m.bin", b"{}", [tensor("a", [1.0, 2.0])])
    checkpoint = open_checkpoint(tmp_path / "m.bin")
    assert np.concatenate([*checkpoint.float32_chunks("a")]).tolist() == [1.0, 2.0]
