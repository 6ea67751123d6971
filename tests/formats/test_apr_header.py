"""The fixed parts of an APR file: golden bytes, and what is refused in them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_aprqa.formats.apr_header import (
    CODES,
    DTYPES,
    AprEntry,
    AprHeader,
    header_checksum,
    parse_header,
    parse_index,
    stored_sizes,
)
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import fits, nbytes_of

PATH = Path("m.apr")
HEADER = AprHeader(2, 5, 128, 192)
ENTRIES = [AprEntry("a", 0, (2, 3), 0, 24), AprEntry("b", 30, (), 64, 2)]


def index_file(entries: list[AprEntry], *, data: int = 256, gap: int = 0) -> tuple[bytes, int, int]:
    """Index and data behind 64 zero bytes; the data's offset and the file's size."""
    index = b"".join(entry.pack() for entry in entries) + bytes(gap)
    start = 64 + len(index)
    return bytes(64) + index + bytes(data), start, start + data


def parsed(entries: list[AprEntry], *, data: int = 256, gap: int = 0) -> list[AprEntry]:
    file, start, size = index_file(entries, data=data, gap=gap)
    return parse_index(PATH, file, AprHeader(len(entries), 0, 64, start), size=size)


def test_header_bytes() -> None:
    packed = HEADER.pack()
    assert packed[:40].hex() == (
        "41505200" "0200" "0004" "02000000" "4000000000000000" "05000000"
        "8000000000000000" "c000000000000000"
    )  # fmt: skip
    assert packed[44:] == bytes(20)
    assert struct.unpack("<I", packed[40:44])[0] == zlib.crc32(packed[:40] + packed[44:])
    assert parse_header(PATH, packed, size=300) == HEADER


def test_entry_bytes() -> None:
    entry = AprEntry("né", 12, (2, 256), 64, 288)
    assert entry.pack().hex() == (
        "0300" "6ec3a9" "0c" "02" "0200000000000000" "0001000000000000"
        "4000000000000000" "2001000000000000"
    )  # fmt: skip
    assert parsed([entry], data=352) == [entry]


def test_every_bit_of_the_header_is_checked() -> None:
    packed = bytearray(HEADER.pack())
    for bit in range(512):
        packed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError, match="header's checksum is"):
            parse_header(PATH, bytes(packed), size=300)
        packed[bit // 8] ^= 1 << bit % 8
    assert parse_header(PATH, bytes(packed), size=300) == HEADER


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"version": (3, 0)}, r"APR version 3.0; expected 2.x"),
        ({"flags": 0x401}, "flag LZ4 is set; .* write the file again without compression"),
        ({"flags": 0x402}, "flag ZSTD is set"),
        ({"flags": 0x404}, "flag ENCRYPTED is set; .* decrypt the file first"),
        ({"flags": 0x800}, "flag LAYOUT_COLUMN_MAJOR is set; .* import the model again"),
        ({"metadata_offset": 63}, "do not follow each other within 300 bytes"),
        ({"metadata_offset": 2**63}, "do not follow each other"),
        ({"metadata_size": 65}, r"metadata at 64 \(65 bytes\), index at 128"),
        ({"index_offset": 2**64 - 1}, "do not follow each other"),
        ({"data_offset": 127}, "do not follow each other"),
        ({"data_offset": 301}, "the file is cut short or damaged"),
        ({"tensor_count": 4}, "4 tensors do not fit an index of 64 bytes"),
        ({"tensor_count": 2**32 - 1}, "4294967295 tensors do not fit"),
    ],
)
def test_bad_header(changed: dict[str, int], expected: str) -> None:
    header = replace(HEADER, **changed)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=expected) as caught:
        parse_header(PATH, header.pack(), size=300)
    assert str(caught.value).startswith("m.apr: ")


def test_flags_that_change_nothing_are_read() -> None:
    header = replace(HEADER, flags=0x9338)
    assert parse_header(PATH, header.pack(), size=300).flag_names == (
        *("SIGNED", "SHARDED", "QUANTIZED", "STREAMING", "HAS_VOCAB", "0x1000", "0x8000"),
    )


def test_short_header() -> None:
    with pytest.raises(CheckpointError, match="63 bytes; expected at least the 64"):
        parse_header(PATH, HEADER.pack()[:63], size=63)
    assert header_checksum(HEADER.pack()) == int.from_bytes(HEADER.pack()[40:44], "little")


def test_index_of_several() -> None:
    assert parsed(ENTRIES) == ENTRIES
    assert parsed(ENTRIES, gap=63) == ENTRIES
    assert parsed([]) == []


def test_data_in_another_order_than_the_index() -> None:
    swapped = [replace(ENTRIES[0], offset=64), replace(ENTRIES[1], offset=0)]
    assert parsed(swapped) == swapped


@pytest.mark.parametrize("code", [code for code in range(256) if code not in DTYPES])
def test_codes_that_aprender_does_not_know(code: int) -> None:
    with pytest.raises(CheckpointError, match=f"dtype code {code} is none of aprender's") as caught:
        parsed([replace(ENTRIES[0], code=code)])
    realizar = {2: "Q4_0", 10: "Q2_K", 11: "Q3_K", 13: "Q5_K", 16: "IQ2_XXS", 17: "IQ2_XS"}
    assert ("realizar takes it for " in str(caught.value)) == (code in realizar)
    assert realizar.get(code, "") in str(caught.value)


@pytest.mark.parametrize(
    ("code", "name", "size"), [(3, "Q4_1", 20), (6, "Q5_0", 22), (7, "Q5_1", 24)]
)
def test_codes_that_mean_two_things(code: int, name: str, size: int) -> None:
    with pytest.raises(CheckpointError, match=f"realizar writes {name} under the same code {code}"):
        parsed([AprEntry("a", code, (32,), 0, size)])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([replace(ENTRIES[1], name="c"), ENTRIES[1]], "'b' follows 'c': not sorted"),
        ([AprEntry("\uff5a", 0, (), 0, 4), AprEntry("😀", 0, (), 64, 4)], None),
        ([ENTRIES[0], replace(ENTRIES[1], name="a")], "'a' follows 'a': twice the same name"),
        ([replace(ENTRIES[0], name="")], "a name of 0 bytes; expected 1 to 256"),
        ([replace(ENTRIES[0], name="n" * 257)], "a name of 257 bytes; expected 1 to 256"),
        ([replace(ENTRIES[0], name="a\nb")], r"name 'a\\nb' has unprintable characters"),
        ([replace(ENTRIES[0], shape=(1,) * 9)], "9 dimensions; expected at most 8"),
        ([replace(ENTRIES[0], shape=(2**62, 4))], "overflows 63 bits"),
        ([replace(ENTRIES[0], nbytes=25)], r"25 bytes; expected 24 for F32 \[2, 3\]"),
        ([AprEntry("q", 12, (2, 300), 0, 400)], "400 bytes; expected 432 or 576 for Q4_K"),
        ([AprEntry("q", 129, (0,), 0, 4)], r"4 bytes; expected 0 for APR_Q8 \[0\]"),
        ([ENTRIES[0], replace(ENTRIES[1], offset=23)], "begins at byte 23 .* inside of a"),
        ([replace(ENTRIES[0], offset=233)], "ends at byte 257 of the data, of which the file has"),
        ([replace(ENTRIES[0], offset=2**64 - 1)], "the file is cut short"),
        ([AprEntry("a", 0, (0,), 257, 0)], "ends at byte 257 of the data"),
    ],
)
def test_bad_index(entries: list[AprEntry], expected: str | None) -> None:
    if expected is None:  # in the order of bytes, which is not that of UTF-16
        assert parsed(entries) == entries
        return
    with pytest.raises(CheckpointError, match=expected) as caught:
        parsed(entries)
    assert str(caught.value).startswith("m.apr: ")


def test_name_that_is_not_utf_8() -> None:
    file, start, size = index_file([ENTRIES[0]])
    file = file.replace(b"\1\0a", b"\1\0\xff")
    with pytest.raises(CheckpointError, match=r"name b'\\xff' is not UTF-8"):
        parse_index(PATH, file, AprHeader(1, 0, 64, start), size=size)


@pytest.mark.parametrize("cut", range(1, len(ENTRIES[0].pack()) + 1))
def test_entry_that_leaves_the_index(cut: int) -> None:
    file, start, size = index_file([ENTRIES[0]])
    with pytest.raises(CheckpointError, match="leaves the index, which ends at byte"):
        parse_index(PATH, file, AprHeader(1, 0, 64, start - cut), size=size)


def test_index_with_a_hole_behind_it() -> None:
    with pytest.raises(CheckpointError, match="expected at most 63 bytes of padding"):
        parsed(ENTRIES, gap=64)


def test_sizes_agree_with_the_encodings() -> None:
    for shape in [(), (0,), (1,), (31, 32), (7, 256), (2, 3, 512)]:
        for encoding in CODES:
            if fits(encoding, shape):
                assert stored_sizes(encoding, shape) == {nbytes_of(encoding, shape)}
    assert stored_sizes("Q6_K", (3, 300)) == {4 * 210, 6 * 210}
    assert CODES["APR_Q4"] == 128
    assert CODES["APR_Q8"] == 129
