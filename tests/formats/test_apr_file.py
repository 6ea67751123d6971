"""Damaged, doctored and foreign APR files."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.formats.apr_file import AprFile, verify_footer
from pytest_aprqa.formats.apr_header import AprHeader, aligned
from pytest_aprqa.formats.apr_writer import write_apr
from pytest_aprqa.formats.checkpoint import CheckpointError
from tests.formats.apr_models import llama_metadata, llama_tensors, v1_file, write


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "m.apr"
    write_apr(path, metadata=llama_metadata(), tensors=llama_tensors())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        AprFile.open(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def only_metadata(path: Path, text: bytes, **changed: Any) -> Path:
    """A file without tensors around this text."""
    end = 64 + aligned(len(text))
    header = replace(AprHeader(0, len(text), end, end), **changed)
    return write(path, header.pack() + text + bytes(end - 64 - len(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[]", "metadata: holds a JSON list; expected an object"),
        (b"", "metadata: not JSON"),
        (b'{"a":1,"a":2}', "metadata: key 'a' occurs twice"),
        (b'{"a":"\xff"}', "metadata: not UTF-8 at byte 6"),
        (b'{"a":Infinity}', "metadata: Infinity is no number of JSON's"),
        (rb'{"a":"\udfff"}', "metadata: half a surrogate pair at byte 6"),
        (b'{"a":' * 3000, "metadata: not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "metadata: not JSON"),
        (b'{"a":[' + b"[]," * 1_000_000 + b"[]]}", "would take about 128000"),
    ],
)
def test_bad_metadata(tmp_path: Path, text: bytes, expected: str) -> None:
    tracemalloc.start()
    try:
        assert expected in refusal(only_metadata(tmp_path / "m.apr", text))
        assert tracemalloc.get_traced_memory()[1] < len(text) + 100_000_000
    finally:
        tracemalloc.stop()


def test_file_without_tensors_or_footer(tmp_path: Path) -> None:
    path = only_metadata(tmp_path / "m.apr", b'{"model_type":"t"}')
    file = AprFile.open(path)
    assert file.metadata == {"model_type": "t"}
    assert not file.tensors
    assert not file.has_footer
    assert not verify_footer(path)


def test_truncated_anywhere(good: Path) -> None:
    data = good.read_bytes()
    header = AprFile.open(good).header
    for length in [*range(0, header.data_offset, 7), header.data_offset, len(data) - 200]:
        write(good, data[:length])
        assert "cut short" in (told := refusal(good)) or "begins with" in told or "at least" in told
    for cut in (1, 2, 3):
        write(good, data[:-cut])
        assert f"the checksum at the end has {4 - cut} of 4 bytes; the file is cut" in refusal(good)


def test_what_follows(good: Path) -> None:
    data = good.read_bytes()
    write(good, data[:-4])
    assert not verify_footer(good)
    write(good, data + b"junk" * 16)
    assert "bytes follow the last tensor; expected padding" in refusal(good)


def test_footer(good: Path) -> None:
    assert verify_footer(good)
    data = bytearray(good.read_bytes())
    data[-100] ^= 1
    write(good, bytes(data))
    AprFile.open(good)
    with pytest.raises(CheckpointError, match=r"m\.apr: the checksum at the end is .* damaged"):
        verify_footer(good)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"", r"begins with b''; expected b'APR\\x00' of APR v2"),
        (b"GGUF" + bytes(99), r"begins with b'GGUF'; expected b'APR\\x00' of APR v2"),
        (b"APR2" + bytes(99), "which only some readers take for APR v2; .* write the file again"),
        (b"APR1" + bytes(99), "an early layout of speech models .* convert the model again"),
        (b"APR\0\1\0\0\0" + bytes(99), r"realizar's old body without metadata \(version 1\)"),
        (b"APR\0" + bytes(99), r"realizar's old body without metadata \(version 0\)"),
        (b"APR\0\2\0", "6 bytes; expected at least the 64"),
        (b"APRN" + bytes(3), "7 bytes; expected at least the 36 of an APR v1 file"),
    ],
)
def test_other_files(tmp_path: Path, start: bytes, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        AprFile.open(write(tmp_path / "m.apr", start))


def test_no_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "m.apr")
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_unknown_tensor(good: Path) -> None:
    file = AprFile.open(good)
    for look in (file.bytes_of, lambda name: list(file.float32_chunks(name)), file.release):
        with pytest.raises(CheckpointError, match=r"m\.apr: there is no tensor 'x'"):
            look("x")


def test_claims_are_not_allocated(tmp_path: Path) -> None:
    """A header with a correct checksum may still claim anything."""
    path = tmp_path / "m.apr"
    tracemalloc.start()
    try:
        for field in ("tensor_count", "metadata_size", "data_offset", "index_offset"):
            for value in (2**31, 2**32 - 1):
                only_metadata(path, b"{}", **{field: value})
                assert refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_sparse_metadata_above_the_limit(tmp_path: Path) -> None:
    path = only_metadata(tmp_path / "m.apr", b"{}", metadata_size=200_000_001, index_offset=2**28,
                         data_offset=2**28)  # fmt: skip
    with path.open("r+b") as stream:
        stream.truncate(2**28)
    assert "200000001 bytes; expected at most 200000000" in refusal(path)


def test_v1_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.apr", v1_file())
    assert "an APR v1 file with a LogisticRegression model (2 bytes, compression none)" in refusal(
        path
    )
