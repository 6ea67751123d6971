"""APR v1 files are described, not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.formats.apr_msgpack import MsgpackError, parse_msgpack
from pytest_aprqa.formats.apr_v1 import AprV1Description, describe
from pytest_aprqa.formats.checkpoint import CheckpointError
from tests.formats.apr_models import v1_file, write


def test_description(tmp_path: Path) -> None:
    path = write(tmp_path / "m.apr", v1_file(flags=0x21, compression=1, unpacked=9, quality=70))
    assert describe(path) == AprV1Description(
        version=(1, 0),
        model_type="LogisticRegression",
        compression="zstd",
        flags=("ENCRYPTED", "QUANTIZED"),
        quality=70,
        metadata_size=4,
        payload_size=2,
        uncompressed_size=9,
        metadata={"a": 1},
    )


def test_unknown_model_type_is_told(tmp_path: Path) -> None:
    assert describe(write(tmp_path / "m", v1_file(type=0x99))).model_type == "unknown (0x99)"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"APR\0" + bytes(60), r"begins with b'APR\\x00'; expected b'APRN'"),
        (v1_file()[:35], "35 bytes; expected at least the 36"),
        (v1_file(major=2), "version 2.0; expected 1.x"),
        (v1_file(meta=5), "claim 7 bytes of 6; the file is cut short or damaged"),
        (v1_file(payload=1), "claim 5 bytes of 6"),
        (v1_file(payload=2**32 - 1), "claim 4294967299 bytes of 6"),
        (v1_file(b"\xc0" * 1_000_001), "metadata of 1000001 bytes; expected at most 1000000"),
        (v1_file(unpacked=2**30 + 1), "a payload of 1073741825 bytes when unpacked"),
        (v1_file(compression=4), r"compression 4; expected one of \[0, 1, 2, 3\]"),
        (v1_file(b"\x01"), "metadata is no map of names"),
        (v1_file(b"\x81\x01\x01"), "metadata is no MessagePack: a key before byte 2 is no text"),
        (v1_file()[:-1] + b"\0", "the checksum at the end is .* damaged"),
    ],
)
def test_bad_file(tmp_path: Path, data: bytes, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected) as caught:
        describe(write(tmp_path / "m.apr", data))
    assert str(caught.value).startswith(f"{tmp_path / 'm.apr'}: ")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        describe(tmp_path / "m.apr")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("7f", 127), ("ff", -1), ("e0", -32), ("c0", None), ("c2", False), ("c3", True),
        ("ca3fc00000", 1.5), ("cb3ff8000000000000", 1.5), ("ccff", 255), ("cdffff", 65535),
        ("ceffffffff", 2**32 - 1), ("cfffffffffffffffff", 2**64 - 1), ("d080", -128),
        ("d18000", -(2**15)), ("d280000000", -(2**31)), ("d38000000000000000", -(2**63)),
        ("a2c3a9", "é"), ("d902c3a9", "é"), ("da0001" "61", "a"), ("db00000001" "61", "a"),
        ("c40161", b"a"), ("c5000161", b"a"), ("c60000000161", b"a"),
        ("920102", [1, 2]), ("dc000101", [1]), ("dd0000000101", [1]),
        ("82a16101a16290", {"a": 1, "b": []}), ("de0001a16101", {"a": 1}), ("df00000000", {}),
    ],
)  # fmt: skip
def test_msgpack(data: str, value: Any) -> None:
    assert parse_msgpack(bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "cut short at byte 0"),
        (b"\xc1", "unknown type 0xc1 at byte 0"),
        (b"\xd4\0\0", "unknown type 0xd4"),
        (b"\xdd\xff\xff\xff\xff", "4294967295 values cannot follow byte 5"),
        (b"\xdf\xff\xff\xff\xff", "4294967295 values cannot follow"),
        (b"\xdb\xff\xff\xff\xff", "cut short at byte 5"),
        (b"\xa1\xff", "text before byte 2 is not UTF-8"),
        (b"\x01\x01", "1 bytes follow the value"),
        (b"\x91" * 50 + b"\x01", "more than 32 levels"),
    ],
)
def test_bad_msgpack(data: bytes, expected: str) -> None:
    with pytest.raises(MsgpackError, match=expected):
        parse_msgpack(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = parse_msgpack(data)
    except MsgpackError as error:
        assert str(error)  # noqa: PT017
    else:
        assert value is None or isinstance(value, bool | int | float | str | bytes | list | dict)
